#include "eval/python_literal.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "kquant/eval/sandbox.hpp"

using namespace kquant;

namespace {
using Pairs = std::vector<std::pair<std::string, std::string>>;

const Pairs kEqual = {
    {"1", "True"},
    {"0", "False"},
    {"-0.0", "0"},
    {"2", "2.0"},
    {"1e3", "1000"},
    {"'a'", "\"a\""},
    {"'\\n\\t\\\\'", "\"\\x0a\\u0009\\\\\""},
    {"'\\u00e9'", "'é'"},
    {"[1, 2]", "[1,2,]"},
    {"(1,)", "( 1 , )"},
    {"(1)", "1"},
    {"()", "( )"},
    {"{1, 2}", "{2, 1, 1}"},
    {"{'a': 1, 'b': [2]}", "{'b': [2], 'a': 1}"},
    {"{1: 'x', 1.0: 'y'}", "{True: 'y'}"},
    {"{}", "{ }"},
    {"[\n1,\n2]", "[1, 2]"},
    {"None", "None"},
    {"[(1, 'x'), {'k': (None, True)}]", "[(1, 'x'), {'k': (None, 1)}]"},
};
const Pairs kDifferent = {{"1", "2"},
                          {"'1'", "1"},
                          {"[1]", "(1,)"},
                          {"[1, 2]", "[2, 1]"},
                          {"None", "False"},
                          {"{}", "[]"},
                          {"{1}", "{1: 1}"},
                          {"'a'", "'A'"},
                          {"{1, 2}", "{1, 3}"},
                          {"{'a': 1}", "{'a': 2}"},
                          {"{'a': 1}", "{'b': 1}"},
                          {"1.5", "1"}};
/// Python's to judge: expressions, errors, and what this reader does not know.
const std::vector<std::string> kUnsure = {"1, 2",        "f(1)",      "'a' + 'b'",
                                          "'a' 'b'",     "set()",     "[1, x]",
                                          "1_000",       "0x10",      "007",
                                          "1j",          "'\\d'",     "'''a'''",
                                          "b'a'",        "r'a'",      "{[1]: 2}",
                                          "{1, [2]}",    "[1,,2]",    "(,)",
                                          "[1",          "'a",        "",
                                          "- 1",         "1 # x",     "9007199254740993",
                                          "1e999",       "nan",       "True and False",
                                          "'\\N{DASH}'", "'a\nb'",    "Nonesuch",
                                          "--1",         "{1: 2, 3}", "[1]\nassert 0"};
}  // namespace

TEST_CASE("literals are equal where Python says so") {
  for (const auto& [a, b] : kEqual) {
    INFO(a << " == " << b);
    CHECK(literals_equal(a, b) == true);
    CHECK(literals_equal(b, a) == true);
  }
  for (const auto& [a, b] : kDifferent) {
    INFO(a << " == " << b);
    CHECK(literals_equal(a, b) == false);
    CHECK(literals_equal(b, a) == false);
  }
  for (const std::string& text : kUnsure) {
    INFO(text);
    CHECK_FALSE(literals_equal(text, "1"));
    CHECK_FALSE(literals_equal("1", text));
  }
  CHECK_FALSE(literals_equal(std::string(10000, '['), "1"));  // deep nesting is no crash
}

TEST_CASE("Python agrees about literals") {
  std::vector<std::string> programs;
  for (const auto& [a, b] : kEqual) programs.push_back("assert " + a + " == " + b);
  for (const auto& [a, b] : kDifferent) programs.push_back("assert " + a + " != " + b);
  const auto outcomes = run_python(programs);
  if (!outcomes) {
    WARN("SKIPPED: no sandbox: " << outcomes.error().message);
    return;
  }
  for (std::size_t i = 0; i < programs.size(); ++i) {
    INFO(programs[i]);
    CHECK((*outcomes)[i] == Outcome::kPassed);
  }
}
