#include <catch2/catch.hpp>
#include <fstream>

#include "eval/musr_hints.hpp"
#include "kquant/eval/musr.hpp"
#include "kquant/eval/score.hpp"
#include "kquant/eval/task.hpp"
#include "shared_data.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

std::filesystem::path embedded(const std::string& name) {
  return source_path("examples/embedded_model/eval/" + name);
}

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string load_error(Task task, const std::string& text) {
  const TempDir dir;
  write(dir / "data.jsonl", text);
  const auto benchmark = Benchmark::load(task, dir / "data.jsonl");
  REQUIRE_FALSE(benchmark);
  return benchmark.error().message;
}

const std::string kMmlu =
    R"({"question_id": 7, "question": "Q?", "options": ["x", "y", "N/A"], "answer": "B", "category": "law"})"
    "\n";
const std::string kMusr =
    R"({"context": "C.", "question": "Who is the most likely murderer?", "choices": ["Ann", "Bo"], "answer": 1})"
    "\n";

}  // namespace

TEST_CASE("prompts are those of the benchmarks") {
  const auto mmlu = Benchmark::load(Task::kMmluPro, embedded("mmlu_pro.jsonl"),
                                    embedded("mmlu_pro_validation.jsonl"));
  REQUIRE(mmlu);
  CHECK(
      (*mmlu)->prompt(0, Mode::kCot, 0) ==
      "The following are multiple choice questions (with answers) about history. Think step by "
      "step and then finish your answer with \"the answer is (X)\" where X is the correct letter "
      "choice.\n\nQuestion:\nWhich of these is the banner of Zusk?\nOptions:\nA. blue flag\nB. "
      "grey "
      "flag\nC. white flag\nD. silver flag\nE. red flag\nF. purple flag\nAnswer: Let's think step "
      "by step.");
  CHECK((*mmlu)->shots(0, Mode::kCot) == 5);
  CHECK_THAT((*mmlu)->prompt(0, Mode::kCot, 1),
             Catch::Contains("C. green flag\nAnswer: Let's think step by step. The banner of Zambe "
                             "is brown flag. The answer is (B).\n\nQuestion:\nWhich of these"));

  const auto output = Benchmark::load(Task::kCruxevalO, embedded("cruxeval.jsonl"));
  REQUIRE(output);
  CHECK_THAT((*output)->prompt(0, Mode::kDirect, 2),
             Catch::EndsWith("[PYTHON]\ndef f(text):\n    return text[1]\nassert f('vzg') == "
                             "??\n[/PYTHON]\n[ANSWER]\n"));
  CHECK_THAT((*output)->prompt(0, Mode::kCot, 1), Catch::EndsWith("[/PYTHON]\n[THOUGHT]\n"));
  const auto input = Benchmark::load(Task::kCruxevalI, embedded("cruxeval.jsonl"));
  REQUIRE(input);
  CHECK_THAT((*input)->prompt(0, Mode::kDirect, 0), Catch::Contains("assert f(?\?) == 'z'\n"));

  const auto musr = Benchmark::load(Task::kMusr, embedded("musr.jsonl"));
  REQUIRE(musr);
  CHECK_THAT(
      (*musr)->prompt(0, Mode::kDirect, 0),
      Catch::EndsWith("given the story?\n\nPick one of the following choices:\n1 - crate\n2 - "
                      "basket\n3 - drawer\n\nYou must pick one option. Finally, the last thing "
                      "you generate should be \"ANSWER: (your answer here, include the choice "
                      "number)\""));
  CHECK_THAT((*musr)->prompt(0, Mode::kCot, 0),
             Catch::Contains("Explain your reasoning step by step"));
  CHECK((*musr)->category(0) == "object placements");

  // cot+: a hint and one solved example of the item's domain, ours or one that is given.
  REQUIRE((*musr)->shots(0, Mode::kCotPlus) == 1);
  CHECK_THAT((*musr)->prompt(0, Mode::kCotPlus, 0),
             Catch::Contains("You must pick one option. People believe a thing to be where they "
                             "last saw it") &&
                 Catch::Contains("could not. Explain your reasoning step by step"));
  CHECK_THAT((*musr)->prompt(0, Mode::kCotPlus, 1),
             Catch::StartsWith("Everybody knew that the stamp was in the drawer.") &&
                 Catch::Contains("ANSWER: 3\n\n"));
  for (const char* const domain : {"murder mysteries", "object placements", "team allocations"}) {
    INFO(domain);
    const MusrItem* const example = musr_example(domain);
    REQUIRE(example != nullptr);
    CHECK(extract_musr(example->worked) == std::to_string(example->answer + 1));
    CHECK_FALSE(musr_hint(domain).empty());
  }
  CHECK(musr_example("other") == nullptr);
  const TempDir dir;
  write(dir / "shots.jsonl",
        R"({"context": "C", "question": "Where would he look to find it?", "choices": ["a", "b"], )"
        R"("answer": 0, "solution": "So. ANSWER: 1"})");
  const auto given = Benchmark::load(Task::kMusr, embedded("musr.jsonl"), dir / "shots.jsonl");
  REQUIRE(given);
  CHECK_THAT((*given)->prompt(0, Mode::kCotPlus, 1), Catch::StartsWith("C\n\nWhere would he"));
}

TEST_CASE("bad data name file, line and field") {
  using Catch::Contains;
  CHECK_THAT(load_error(Task::kMmluPro, kMmlu + "{\"question_id\": 8, \"quest"),
             Contains("data.jsonl: line 2: no JSON") && Contains("byte 26"));
  CHECK_THAT(load_error(Task::kMmluPro, kMmlu + "[1]"), Contains("line 2: found array"));
  CHECK_THAT(load_error(Task::kMmluPro, kMmlu + kMmlu), Contains("two items have the id '7'"));
  CHECK_THAT(load_error(Task::kMmluPro, kMusr),
             Contains("line 1: field 'question_id': is missing") && Contains("task mmlu-pro"));
  CHECK_THAT(load_error(Task::kMusr, kMmlu), Contains("field 'context': is missing"));
  CHECK_THAT(load_error(Task::kCruxevalO, kMmlu), Contains("field 'code': is missing"));
  CHECK_THAT(
      load_error(Task::kMmluPro, "\n" + kMmlu.substr(0, kMmlu.find("\"B\"")) + "\"C\"" +
                                     kMmlu.substr(kMmlu.find("\"B\"") + 3)),
      Contains("line 2: field 'answer': found 'C', expected the letter of one of 2 options"));
  CHECK_THAT(load_error(Task::kMusr, "{\"context\": 3}"),
             Contains("field 'context': found number"));
  CHECK_THAT(load_error(Task::kMusr, "\n \n"), Contains("has no items"));
  CHECK(Benchmark::load(Task::kMusr, "no/such/file").error().code == ErrorCode::kNotFound);
  // A gzip stream that breaks off.
  CHECK_THAT(load_error(Task::kMusr, std::string("\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\x56", 12)),
             Contains("truncated"));
}

TEST_CASE("outputs are judged in their order, and what nothing answers is worth a guess") {
  const TempDir dir;
  write(
      dir / "data.jsonl",
      kMmlu +
          R"({"question_id": 9, "question": "Q?", "options": ["x", "y", "z", "v"], "answer": "D", "category": "art"})");
  write(dir / "out.jsonl", R"({"question_id": 9, "generated_text": "it is unknown"})"
                           "\n"
                           R"x({"id": "7", "generated_text": "the answer is (B)"})x");
  const auto benchmark = Benchmark::load(Task::kMmluPro, dir / "data.jsonl");
  REQUIRE(benchmark);
  auto items = read_outputs(dir / "out.jsonl", **benchmark);
  REQUIRE(items);
  REQUIRE(judge(*items, **benchmark, {}));
  const Summary summary = summarize(*items);
  CHECK(summary.accuracy == Approx((1 + 0.25) / 2));
  CHECK(summary.guessed == 1);
  REQUIRE(summary.categories.size() == 2);
  CHECK(summary.categories[0].name == "art");
  CHECK(summary.categories[0].accuracy == 0.25);
  REQUIRE(write_verdicts(dir / "verdicts.jsonl", *items, Task::kMmluPro));
  CHECK(read_text(dir / "verdicts.jsonl") ==
        "{\"question_id\":9,\"extracted\":null,\"verdict\":false,\"score\":0.25}\n"
        "{\"question_id\":7,\"extracted\":\"B\",\"verdict\":true,\"score\":1.0}\n");

  const auto error = [&](const std::string& text) {
    write(dir / "bad.jsonl", text);
    const auto outputs = read_outputs(dir / "bad.jsonl", **benchmark);
    REQUIRE_FALSE(outputs);
    return outputs.error().message;
  };
  using Catch::Contains;
  CHECK_THAT(error(R"({"id": 8, "generated_text": ""})"),
             Contains("line 1") && Contains("no item '8'"));
  CHECK_THAT(error("{\"id\": 7, \"generated_text\": \"\"}\n{\"id\": 7, \"generated_text\": \"\"}"),
             Contains("line 2: item '7' came before"));
  CHECK_THAT(error(R"({"id": 7})"), Contains("field 'generated_text': is missing"));
  CHECK_THAT(error(R"({"id": 7, "generations": ["a", 1]})"), Contains("element 1: found number"));
  CHECK_THAT(error(R"({"generated_text": "a"})"), Contains("field 'id': is missing"));
}

TEST_CASE("CRUXEval: rejected generations are skipped by its own rules, wrong by strict ones") {
  const TempDir dir;
  write(
      dir / "data.jsonl",
      R"({"code": "def f(x):\n    return x + [1]", "input": "[2]", "output": "[2, 1]", "id": "s"})");
  for (const Task task : {Task::kCruxevalO, Task::kCruxevalI}) {
    const bool output = task == Task::kCruxevalO;
    write(dir / "out.jsonl",
          output ? R"x({"id": "s", "generations": ["[2, 1]", "f([2])", "[1, 2]", "[2] + [1]"]})x"
                 : R"x({"id": "s", "generations": ["f([2])", "[2]", "f([1])", "f(list([2]))"]})x");
    const auto benchmark = Benchmark::load(task, dir / "data.jsonl");
    REQUIRE(benchmark);
    auto items = read_outputs(dir / "out.jsonl", **benchmark);
    REQUIRE(items);
    if (const auto judged = judge(*items, **benchmark, {}); !judged) {
      WARN("SKIPPED: " << judged.error().message);
      return;
    }
    const auto& verdicts = items->front().verdicts;
    CHECK(verdicts[0].score == 1);
    CHECK(verdicts[1].rejected);
    CHECK(verdicts[2].score == 0);
    CHECK(verdicts[3].score == 1);
    const Summary summary = summarize(*items);
    CHECK(summary.rejected == 1);
    CHECK(summary.pass_1 == Approx(2.0 / 3));
    CHECK(summary.strict_pass_1 == Approx(0.5));
  }
}

TEST_CASE("MuSR: a gold digit anywhere counts for its own rules, the first digit for strict ones") {
  const TempDir dir;
  write(dir / "data.jsonl", kMusr + kMusr + kMusr);
  write(dir / "out.jsonl",
        "{\"id\": 0, \"generated_text\": \"ANSWER: 1 or 2\"}\n{\"id\": 1, \"generated_text\": "
        "\"ANSWER: 2 - Bo\"}\n{\"id\": 2, \"generated_text\": \"Bo\"}");
  const auto benchmark = Benchmark::load(Task::kMusr, dir / "data.jsonl");
  REQUIRE(benchmark);
  auto items = read_outputs(dir / "out.jsonl", **benchmark);
  REQUIRE(items);
  REQUIRE(judge(*items, **benchmark, {}));
  const Summary summary = summarize(*items);
  CHECK(summary.accuracy == Approx((1 + 1 + 0.5) / 3));
  CHECK(summary.strict_accuracy == Approx((0 + 1 + 0.5) / 3));
  CHECK(summary.guessed == 1);
}
