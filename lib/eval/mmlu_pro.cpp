#include "kquant/eval/mmlu_pro.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "eval/benchmarks.hpp"
#include "eval/json_lines.hpp"

#include "eval/pattern.hpp"

namespace kquant {
namespace {

constexpr std::string_view kLetters = "ABCDEFGHIJ";
constexpr std::string_view kThink = "Let's think step by step.";
constexpr int kShots = 5;

struct Item {
  std::string id, question, category;
  std::vector<std::string> options;
  std::size_t answer = 0;
  std::string worked;  ///< of an example: its reasoning and answer
};

Result<Item> read_item(const JsonRecord& record, bool is_shot) {
  Item item;
  const auto id = record.identifier("question_id");
  if (!id) return fail(id.error());
  const auto question = record.text("question");
  if (!question) return fail(question.error());
  auto options = record.texts("options");
  if (!options) return fail(options.error());
  const auto category = record.text("category");
  if (!category) return fail(category.error());
  const auto answer = record.text("answer");
  if (!answer) return fail(answer.error());
  std::erase(*options, "N/A");
  if (options->size() < 2 || options->size() > kLetters.size())
    return record.bad("options", fmt::format("found {} options, expected 2 to {}", options->size(),
                                             kLetters.size()));
  item.answer = answer->size() == 1 ? kLetters.find((*answer)[0]) : std::string::npos;
  if (item.answer >= options->size())
    return record.bad("answer", fmt::format("found '{}', expected the letter of one of {} options",
                                            *answer, options->size()));
  item.id = *id;
  item.question = *question;
  item.category = *category;
  item.options = std::move(*options);
  if (is_shot) {
    const auto worked = record.text("cot_content");
    if (!worked) return fail(worked.error());
    const std::size_t at = worked->find(kThink);
    item.worked = at == worked->npos ? " " + *worked : worked->substr(at + kThink.size());
  }
  return item;
}

class MmluPro : public Benchmark {
 public:
  std::vector<Item> items;
  std::map<std::string, std::vector<Item>, std::less<>> examples;  // of each category

  std::size_t size() const override { return items.size(); }
  const std::string& id(std::size_t i) const override { return items[i].id; }
  std::string_view category(std::size_t i) const override { return items[i].category; }
  std::span<const Mode> modes() const override {
    static constexpr Mode kModes[] = {Mode::kCot, Mode::kLoglik};
    return kModes;
  }
  int shots(std::size_t i, Mode) const override {
    const auto found = examples.find(items[i].category);
    return found == examples.end() ? 0 : static_cast<int>(found->second.size());
  }
  std::string prompt(std::size_t i, Mode mode, int shots) const override {
    std::string out = fmt::format(
        "The following are multiple choice questions (with answers) about {}. Think step by step "
        "and then finish your answer with \"the answer is (X)\" where X is the correct letter "
        "choice.\n\n",
        items[i].category);
    for (int shot = 0; shot < shots; ++shot) {
      const Item& example =
          examples.find(items[i].category)->second[static_cast<std::size_t>(shot)];
      out += asked(example) + fmt::format("Answer: {}{}\n\n", kThink, example.worked);
    }
    out += asked(items[i]) + "Answer:";
    return mode == Mode::kLoglik ? out : fmt::format("{} {}", out, kThink);
  }
  std::vector<std::string> stops(Mode) const override { return {"Question:"}; }
  int max_tokens(Mode) const override { return 2048; }
  std::vector<std::string> choices(std::size_t i) const override {
    std::vector<std::string> out;
    for (const std::string& option : items[i].options) out.push_back(" " + option);
    return out;
  }
  std::size_t right_choice(std::size_t i) const override { return items[i].answer; }

  Result<std::vector<Verdict>> judge(std::span<const Answer> answers,
                                     const ScoreOptions& options) const override {
    std::vector<Verdict> verdicts;
    for (const Answer& answer : answers) {
      const Item& item = items[answer.item];
      Verdict verdict{.extracted = extract_mmlu_pro(answer.text, options.rules)};
      verdict.guessed = !verdict.extracted;
      verdict.score = verdict.guessed ? 1.0 / static_cast<double>(item.options.size())
                      : kLetters.find((*verdict.extracted)[0]) == item.answer ? 1
                                                                              : 0;
      verdict.strict_score = verdict.score;
      verdicts.push_back(std::move(verdict));
    }
    return verdicts;
  }

 private:
  static std::string asked(const Item& item) {
    std::string out = fmt::format("Question:\n{}\nOptions:\n", item.question);
    for (std::size_t i = 0; i < item.options.size(); ++i)
      out += fmt::format("{}. {}\n", kLetters[i], item.options[i]);
    return out;
  }
};

}  // namespace

std::optional<std::string> extract_mmlu_pro(std::string_view output, MmluProRules rules) {
  static const Pattern first(R"(answer is \(?([A-J])\)?)"), second(R"(.*[aA]nswer:\s*([A-J]))"),
      third(R"(\b[A-J]\b)");
  if (auto letter = first.first_group(output)) return letter;
  if (rules == MmluProRules::k1) return std::nullopt;
  if (auto letter = second.first_group(output)) return letter;
  if (rules == MmluProRules::k12) return std::nullopt;
  return third.last_match(output);
}

BenchmarkResult load_mmlu_pro(const std::filesystem::path& data,
                              const std::filesystem::path& shots) {
  auto benchmark = std::make_unique<MmluPro>();
  auto read = read_json_lines(data, [&](const JsonRecord& record) -> Result<void> {
    auto item = read_item(record, false);
    if (!item) return fail(item.error());
    benchmark->items.push_back(std::move(*item));
    return {};
  });
  if (!read) return fail(read.error());
  if (shots.empty()) return benchmark;
  read = read_json_lines(shots, [&](const JsonRecord& record) -> Result<void> {
    auto item = read_item(record, true);
    if (!item) return fail(item.error());
    auto& of_category = benchmark->examples[item->category];
    if (of_category.size() < kShots) of_category.push_back(std::move(*item));
    return {};
  });
  if (!read) return fail(read.error());
  return benchmark;
}

}  // namespace kquant
