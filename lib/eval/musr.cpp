#include "kquant/eval/musr.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "eval/benchmarks.hpp"
#include "eval/json_lines.hpp"
#include "eval/musr_hints.hpp"

namespace kquant {
namespace {

using Item = MusrItem;

/// The files name no domain; their questions do.
std::string domain_of(std::string_view question) {
  if (question.find("murderer") != question.npos) return "murder mysteries";
  if (question.find("look to find") != question.npos) return "object placements";
  if (question.find("allocate") != question.npos) return "team allocations";
  return "other";
}

Result<Item> read_item(const JsonRecord& record, std::size_t index, bool is_shot) {
  Item item;
  auto context = record.text("context");
  if (!context) return fail(context.error());
  auto question = record.text("question");
  if (!question) return fail(question.error());
  auto choices = record.texts("choices");
  if (!choices) return fail(choices.error());
  const auto answer = record.integer("answer");
  if (!answer) return fail(answer.error());
  constexpr std::size_t kMost = 9;  // one digit tells them apart
  if (choices->size() < 2 || choices->size() > kMost)
    return record.bad("choices",
                      fmt::format("found {} choices, expected 2 to {}", choices->size(), kMost));
  if (*answer < 0 || static_cast<std::size_t>(*answer) >= choices->size())
    return record.bad("answer", fmt::format("found {}, expected the index of one of {} choices",
                                            *answer, choices->size()));
  item.id = std::to_string(index);
  if (record.has("id")) {
    auto id = record.identifier("id");
    if (!id) return fail(id.error());
    item.id = std::move(*id);
  }
  if (is_shot) {
    auto worked = record.text("solution");
    if (!worked) return fail(worked.error());
    item.worked = std::move(*worked);
  }
  item.domain = domain_of(*question);
  item.context = std::move(*context);
  item.question = std::move(*question);
  item.choices = std::move(*choices);
  item.answer = static_cast<std::size_t>(*answer);
  return item;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

class Musr : public Benchmark {
 public:
  std::vector<Item> items, examples;

  std::size_t size() const override { return items.size(); }
  const std::string& id(std::size_t i) const override { return items[i].id; }
  std::string_view category(std::size_t i) const override { return items[i].domain; }
  std::span<const Mode> modes() const override {
    static constexpr Mode kModes[] = {Mode::kDirect, Mode::kCot, Mode::kCotPlus, Mode::kLoglik};
    return kModes;
  }
  int shots(std::size_t i, Mode mode) const override {
    if (mode == Mode::kCotPlus) return solved_example(items[i].domain) ? 1 : 0;
    return mode == Mode::kLoglik ? 0 : static_cast<int>(examples.size());
  }
  std::string prompt(std::size_t i, Mode mode, int shots) const override {
    std::string out;
    for (int shot = 0; shot < shots; ++shot) {
      const Item& example = mode == Mode::kCotPlus ? *solved_example(items[i].domain)
                                                   : examples[static_cast<std::size_t>(shot)];
      out += asked(example, mode) + "\n\n" + example.worked + "\n\n";
    }
    return out + asked(items[i], mode);
  }
  std::string_view system() const override {
    return "You are a helpful assistant that will answer the questions given by the user.";
  }
  std::vector<std::string> stops(Mode) const override { return {}; }
  int max_tokens(Mode) const override { return 2048; }
  std::vector<std::string> choices(std::size_t i) const override {
    std::vector<std::string> out;
    for (const std::string& choice : items[i].choices) out.push_back(" " + choice);
    return out;
  }
  std::size_t right_choice(std::size_t i) const override { return items[i].answer; }

  Result<std::vector<Verdict>> judge(std::span<const Answer> answers,
                                     const ScoreOptions&) const override {
    std::vector<Verdict> verdicts;
    for (const Answer& answer : answers) {
      const Item& item = items[answer.item];
      Verdict verdict{.extracted = extract_musr(answer.text)};
      if (!verdict.extracted) {
        verdict.guessed = true;
        verdict.score = verdict.strict_score = 1.0 / static_cast<double>(item.choices.size());
      } else {
        const std::string& text = *verdict.extracted;
        const char gold = static_cast<char>('1' + item.answer);
        verdict.score = text.find(gold) != text.npos ? 1 : 0;
        verdict.strict_score = *std::ranges::find_if(text, is_digit) == gold ? 1 : 0;
      }
      verdicts.push_back(std::move(verdict));
    }
    return verdicts;
  }

 private:
  /// The first one given of that domain, else ours.
  const Item* solved_example(std::string_view domain) const {
    const auto given = std::ranges::find(examples, domain, &Item::domain);
    return given != examples.end() ? &*given : musr_example(domain);
  }

  static std::string asked(const Item& item, Mode mode) {
    std::string out = fmt::format("{}\n\n{}\n\nPick one of the following choices:\n", item.context,
                                  item.question);
    for (std::size_t i = 0; i < item.choices.size(); ++i)
      out += fmt::format("{} - {}\n", i + 1, item.choices[i]);
    if (mode == Mode::kLoglik) return out + "\nAnswer:";
    out += "\nYou must pick one option. ";
    if (mode == Mode::kCotPlus && !musr_hint(item.domain).empty())
      out.append(musr_hint(item.domain)).append(" ");
    if (mode != Mode::kDirect) out += "Explain your reasoning step by step before you answer. ";
    return out +
           "Finally, the last thing you generate should be \"ANSWER: (your answer here, include "
           "the "
           "choice number)\"";
  }
};

}  // namespace

std::optional<std::string> extract_musr(std::string_view output) {
  constexpr std::string_view kMark = "answer:";
  std::string lower(output);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  std::string found;
  for (std::size_t at = 0; at <= lower.size();) {
    const std::size_t end = std::min(lower.find('\n', at), lower.size());
    const std::string_view line = std::string_view(lower).substr(at, end - at);
    at = end + 1;
    const std::size_t mark = line.rfind(kMark);
    if (mark == line.npos) continue;
    const std::string_view text = line.substr(mark + kMark.size());
    const std::size_t begin = text.find_first_not_of(" \t\r");
    if (begin != text.npos) found = text.substr(begin, text.find_last_not_of(" \t\r") + 1 - begin);
  }
  if (std::ranges::none_of(found, is_digit)) return std::nullopt;
  return found;
}

BenchmarkResult load_musr(const std::filesystem::path& data, const std::filesystem::path& shots) {
  auto benchmark = std::make_unique<Musr>();
  const auto read_into = [](const std::filesystem::path& path, std::vector<Item>& items,
                            bool is_shot) {
    return read_json_lines(path, [&items, is_shot](const JsonRecord& record) -> Result<void> {
      auto item = read_item(record, items.size(), is_shot);
      if (!item) return fail(item.error());
      items.push_back(std::move(*item));
      return {};
    });
  };
  if (auto read = read_into(data, benchmark->items, false); !read) return fail(read.error());
  if (!shots.empty())
    if (auto read = read_into(shots, benchmark->examples, true); !read) return fail(read.error());
  return benchmark;
}

}  // namespace kquant
