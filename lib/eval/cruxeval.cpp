#include "kquant/eval/cruxeval.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "eval/benchmarks.hpp"
#include "eval/json_lines.hpp"

#include "eval/python_literal.hpp"

namespace kquant {
namespace {

struct Item {
  std::string code, input, output, id;
  std::string thought;  ///< of an example for chain of thought
};

constexpr std::string_view kDirectO =
    "You are given a Python function and an assertion containing an input to the function. "
    "Complete "
    "the assertion with a literal (no unsimplified expressions, no function calls) containing the "
    "output when executing the provided code on the given input, even if the function is incorrect "
    "or incomplete. Do NOT output any extra information. Provide the full assertion with the "
    "correct "
    "output in [ANSWER] and [/ANSWER] tags, following the examples.";
constexpr std::string_view kDirectI =
    "You will be given a function f and an output in the form f(?\?) == output. Find any input "
    "such "
    "that executing f on the input leads to the given output. There may be multiple answers, but "
    "you "
    "should only output one. In [ANSWER] and [/ANSWER] tags, complete the assertion with one such "
    "input that will produce the output when executing the function.";
constexpr std::string_view kCotO =
    "You are given a Python function and an assertion containing an input to the function. Reason "
    "step by step about what the function does with this input before you answer. Then complete "
    "the "
    "assertion with a literal containing the output, in [ANSWER] and [/ANSWER] tags, following the "
    "example.";
constexpr std::string_view kCotI =
    "You will be given a function f and an output in the form f(?\?) == output. Reason step by "
    "step "
    "about which input leads to the given output before you answer. Then complete the assertion "
    "with "
    "one such input, in [ANSWER] and [/ANSWER] tags, following the example.";

/// Examples of our own, for those who bring none.
const std::vector<Item>& own_examples(Task task) {
  static const std::vector<Item> kOutput = {
      {"def f(n):\n    return n", "83", "83", "",
       "The function returns its argument unchanged. It is called with 83, so it returns 83."},
      {"def f(s):\n    return s + \"c\"", "\"lamp\"", "\"lampc\"", "", ""}};
  static const std::vector<Item> kInput = {
      {"def f(my_list):\n    count = 0\n    for i in my_list:\n        count += 1\n    return "
       "count",
       "[\"river\", \"map\"]", "2", "",
       "The function counts the elements of a list. To get 2, any list of two elements will do, "
       "such "
       "as [\"river\", \"map\"]."},
      {"def f(s1, s2):\n    return s1 + s2", "\"sun\", \"dog\"", "\"sundog\"", "", ""}};
  return task == Task::kCruxevalO ? kOutput : kInput;
}

Result<Item> read_item(const JsonRecord& record) {
  Item item;
  for (const auto& [field, text] : {std::pair("code", &item.code), std::pair("input", &item.input),
                                    std::pair("output", &item.output)}) {
    auto found = record.text(field);
    if (!found) return fail(found.error());
    *text = std::move(*found);
  }
  auto id = record.identifier("id");
  if (!id) return fail(id.error());
  item.id = std::move(*id);
  if (record.has("thought")) {
    auto thought = record.text("thought");
    if (!thought) return fail(thought.error());
    item.thought = std::move(*thought);
  }
  return item;
}

std::string stripped(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\f\v";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin));
}

class Cruxeval : public Benchmark {
 public:
  explicit Cruxeval(Task task) : task_(task), examples(own_examples(task)) {}
  std::vector<Item> items;

  std::size_t size() const override { return items.size(); }
  const std::string& id(std::size_t i) const override { return items[i].id; }
  std::string_view category(std::size_t) const override { return {}; }
  std::span<const Mode> modes() const override {
    static constexpr Mode kModes[] = {Mode::kDirect, Mode::kCot};
    return kModes;
  }
  int shots(std::size_t, Mode mode) const override {
    return std::min(static_cast<int>(examples.size()), mode == Mode::kCot ? 1 : 2);
  }
  std::string prompt(std::size_t i, Mode mode, int shots) const override {
    const bool cot = mode == Mode::kCot, output = task_ == Task::kCruxevalO;
    std::string out =
        fmt::format("{}\n\n", output ? (cot ? kCotO : kDirectO) : (cot ? kCotI : kDirectI));
    for (int shot = 0; shot < shots; ++shot) {
      const Item& example = examples[static_cast<std::size_t>(shot)];
      out += asked(example, mode);
      if (cot) out += example.thought + "\n[/THOUGHT]\n[ANSWER]\n";
      out += fmt::format("assert f({}) == {}\n[/ANSWER]\n\n", example.input, example.output);
    }
    return out + asked(items[i], mode);
  }
  std::vector<std::string> stops(Mode) const override { return {"[/ANSWER]"}; }
  int max_tokens(Mode mode) const override { return mode == Mode::kCot ? 2048 : 1024; }
  bool limit_includes_prompt() const override { return true; }

  Result<std::vector<Verdict>> judge(std::span<const Answer> answers,
                                     const ScoreOptions& options) const override {
    std::vector<Verdict> verdicts(answers.size());
    // Equal programs are run once: samples of one item are often the same.
    std::map<std::string, std::vector<std::size_t>> programs;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const Item& item = items[answers[i].item];
      const std::string answer = extract_cruxeval(answers[i].text, task_);
      verdicts[i].extracted = answer;
      if (task_ == Task::kCruxevalO) {
        verdicts[i].rejected = answer.find(fmt::format("f({})", item.input)) != answer.npos;
        if (verdicts[i].rejected) continue;
        if (const auto equal = literals_equal(item.output, answer)) {
          verdicts[i].score = *equal ? 1 : 0;
          continue;
        }
        programs[fmt::format("{}\nassert {} == {}", item.code, item.output, answer)].push_back(i);
      } else {
        verdicts[i].rejected = answer.find("f(") == answer.npos;
        if (verdicts[i].rejected) continue;
        programs[fmt::format("{}\nassert {} == {}", item.code, answer, item.output)].push_back(i);
      }
    }
    std::vector<std::string> sources;
    for (const auto& [source, indices] : programs) sources.push_back(source);
    const auto outcomes = run_python(sources, options.sandbox);
    if (!outcomes) return fail(outcomes.error());
    auto outcome = outcomes->begin();
    for (const auto& [source, indices] : programs) {
      for (const std::size_t i : indices) verdicts[i].score = *outcome == Outcome::kPassed ? 1 : 0;
      ++outcome;
    }
    for (Verdict& verdict : verdicts) verdict.strict_score = verdict.score;
    return verdicts;
  }

 private:
  std::string asked(const Item& item, Mode mode) const {
    const bool output = task_ == Task::kCruxevalO;
    return fmt::format("[PYTHON]\n{}\nassert f({}) == {}\n[/PYTHON]\n[{}]\n", item.code,
                       output ? item.input : "??", output ? "??" : item.output,
                       mode == Mode::kCot ? "THOUGHT" : "ANSWER");
  }

  Task task_;

 public:
  std::vector<Item> examples;
};

}  // namespace

std::string extract_cruxeval(std::string_view output, Task task) {
  constexpr std::string_view kBegin = "[ANSWER]", kEnd = "[/ANSWER]", kAssert = "assert f";
  if (const std::size_t at = output.find(kBegin); at != output.npos)
    output.remove_prefix(at + kBegin.size());
  output = output.substr(0, output.find(kEnd));
  const std::size_t equals = output.find("==");
  if (task == Task::kCruxevalO)
    return stripped(equals == output.npos ? output : output.substr(equals + 2));
  output = output.substr(0, equals);
  if (const std::size_t at = output.find(kAssert); at != output.npos)
    output.remove_prefix(at + kAssert.size() - 1);
  return stripped(output);
}

BenchmarkResult load_cruxeval(Task task, const std::filesystem::path& data,
                              const std::filesystem::path& shots) {
  auto benchmark = std::make_unique<Cruxeval>(task);
  const auto read_into = [](const std::filesystem::path& path, std::vector<Item>& items) {
    return read_json_lines(path, [&items](const JsonRecord& record) -> Result<void> {
      auto item = read_item(record);
      if (!item) return fail(item.error());
      items.push_back(std::move(*item));
      return {};
    });
  };
  if (auto read = read_into(data, benchmark->items); !read) return fail(read.error());
  if (shots.empty()) return benchmark;
  benchmark->examples.clear();
  if (auto read = read_into(shots, benchmark->examples); !read) return fail(read.error());
  return benchmark;
}

}  // namespace kquant
