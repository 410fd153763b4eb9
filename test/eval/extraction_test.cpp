#include <catch2/catch.hpp>

#include "kquant/eval/cruxeval.hpp"
#include "kquant/eval/mmlu_pro.hpp"
#include "kquant/eval/musr.hpp"

using namespace kquant;

TEST_CASE("MMLU-Pro: three rules, in order") {
  using enum MmluProRules;
  CHECK(extract_mmlu_pro("So the answer is (C). Or the answer is (D).", k1) == "C");
  CHECK(extract_mmlu_pro("the answer is B", k123) == "B");
  CHECK_FALSE(extract_mmlu_pro("Answer: D", k1));
  CHECK(extract_mmlu_pro("Answer: D", k12) == "D");
  CHECK(extract_mmlu_pro("answer: A, no, answer:\n E", k12) == "E");
  CHECK(extract_mmlu_pro("Answer: D, but the answer is (E)", k12) == "E");
  CHECK_FALSE(extract_mmlu_pro("B or C?", k12));
  CHECK(extract_mmlu_pro("B or C?", k123) == "C");
  CHECK_FALSE(extract_mmlu_pro("Beta or Éa", k123));
  CHECK_FALSE(extract_mmlu_pro("éA Aé A1 K", k123));  // letters of other alphabets are letters
  CHECK_FALSE(extract_mmlu_pro("", k123));
  CHECK(extract_mmlu_pro("\xff\xfe the answer is (A)", k123) == "A");
}

TEST_CASE("CRUXEval: what stands in the answer, on the right side") {
  using enum Task;
  CHECK(extract_cruxeval("assert f(1) == [2]\n[/ANSWER]\nmore", kCruxevalO) == "[2]");
  CHECK(extract_cruxeval("I think\n[ANSWER]\nassert f(1) == 2\n[/ANSWER]", kCruxevalO) == "2");
  CHECK(extract_cruxeval(" 'x' \n", kCruxevalO) == "'x'");
  CHECK(extract_cruxeval("assert f('a') == 3\n", kCruxevalI) == "f('a')");
  CHECK(extract_cruxeval("f(1, 2)", kCruxevalI) == "f(1, 2)");
  CHECK(extract_cruxeval("because\n[ANSWER]assert f([3]) == 3[/ANSWER]", kCruxevalI) == "f([3])");
  CHECK(extract_cruxeval("", kCruxevalI).empty());
}

TEST_CASE("MuSR: after the last \"answer:\" of the last line that says something") {
  CHECK(extract_musr("Ann did it.\nANSWER: 2 - Ann") == "2 - ann");
  CHECK(extract_musr("Answer: 1\nno,\nanswer: (2)\nANSWER:") == "(2)");
  CHECK(extract_musr("ANSWER: 1, or ANSWER: 3") == "3");
  CHECK_FALSE(extract_musr("ANSWER: Ann"));
  CHECK_FALSE(extract_musr("2"));
}
