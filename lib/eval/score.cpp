#include "kquant/eval/score.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "eval/json_lines.hpp"
#include "kquant/base/atomic_file.hpp"

namespace kquant {
namespace {

/// Right and counted outputs. Its own rules skip rejected generations; strict ones call them wrong.
struct Tally {
  std::size_t counted = 0, right = 0;
};
Tally tally(const ScoredItem& item, bool strict) {
  Tally out;
  for (const Verdict& verdict : item.verdicts) {
    out.counted += strict || !verdict.rejected;
    out.right += (strict ? verdict.strict_score : verdict.score) > 0.5;
  }
  return out;
}

double mean_score(const ScoredItem& item, bool strict) {
  double sum = 0;
  for (const Verdict& verdict : item.verdicts) sum += strict ? verdict.strict_score : verdict.score;
  const std::size_t n = tally(item, strict).counted;
  return n == 0 ? 0 : sum / static_cast<double>(n);
}

double mean_pass(std::span<const ScoredItem> items, std::size_t k, bool strict) {
  double sum = 0;
  for (const ScoredItem& item : items) {
    const Tally t = tally(item, strict);
    sum += t.right == 0 ? 0 : pass_at_k(t.counted, t.right, k);
  }
  return items.empty() ? 0 : sum / static_cast<double>(items.size());
}

Result<std::string> id_of(const JsonRecord& record) {
  return record.identifier(record.has("question_id") ? "question_id" : "id");
}

}  // namespace

double ScoredItem::score() const {
  return mean_score(*this, false);
}
double ScoredItem::strict_score() const {
  return mean_score(*this, true);
}

Result<std::vector<ScoredItem>> read_outputs(const std::filesystem::path& path,
                                             const Benchmark& benchmark) {
  std::unordered_map<std::string_view, std::size_t> items;
  for (std::size_t i = 0; i < benchmark.size(); ++i) items.emplace(benchmark.id(i), i);
  std::vector<ScoredItem> out;
  std::vector<bool> seen(benchmark.size());
  auto read = read_json_lines(path, [&](const JsonRecord& record) -> Result<void> {
    const auto id = id_of(record);
    if (!id) return fail(id.error());
    const auto found = items.find(*id);
    if (found == items.end())
      return fail(ErrorCode::kBadFile,
                  fmt::format("{}: the data have no item '{}'", record.where(), *id));
    if (seen[found->second])
      return fail(ErrorCode::kBadFile,
                  fmt::format("{}: item '{}' came before", record.where(), *id));
    seen[found->second] = true;
    ScoredItem item;
    item.item = found->second;
    item.id = *id;
    item.category = benchmark.category(item.item);
    item.is_list = record.has("generations");
    if (item.is_list) {
      auto texts = record.texts("generations");
      if (!texts) return fail(texts.error());
      if (texts->empty()) return record.bad("generations", "is empty");
      item.outputs = std::move(*texts);
    } else {
      auto text = record.text("generated_text");
      if (!text) return fail(text.error());
      item.outputs.push_back(std::move(*text));
    }
    out.push_back(std::move(item));
    return {};
  });
  if (!read) return fail(read.error());
  if (out.empty()) return fail(ErrorCode::kBadFile, path.string() + ": has no outputs");
  return out;
}

Result<void> judge(std::span<ScoredItem> items, const Benchmark& benchmark,
                   const ScoreOptions& options) {
  std::vector<Answer> answers;
  for (const ScoredItem& item : items)
    for (const std::string& text : item.outputs) answers.push_back({item.item, text});
  auto verdicts = benchmark.judge(answers, options);
  if (!verdicts) return fail(verdicts.error());
  auto next = verdicts->begin();
  for (ScoredItem& item : items) {
    const auto end = next + static_cast<std::ptrdiff_t>(item.outputs.size());
    item.verdicts.assign(std::make_move_iterator(next), std::make_move_iterator(end));
    next = end;
  }
  return {};
}

Summary summarize(std::span<const ScoredItem> items) {
  Summary summary;
  summary.items = items.size();
  std::vector<double> scores;
  double strict = 0;
  std::map<std::string_view, std::pair<std::size_t, double>> categories;
  summary.least_outputs = items.empty() ? 0 : items.front().outputs.size();
  for (const ScoredItem& item : items) {
    scores.push_back(item.score());
    strict += item.strict_score() / static_cast<double>(items.size());
    summary.outputs += item.verdicts.size();
    summary.least_outputs = std::min(summary.least_outputs, item.verdicts.size());
    for (const Verdict& verdict : item.verdicts) {
      summary.guessed += verdict.guessed;
      summary.rejected += verdict.rejected;
    }
    if (!item.category.empty()) {
      auto& [count, sum] = categories[item.category];
      ++count;
      sum += scores.back();
    }
  }
  if (items.empty()) return summary;
  const auto n = static_cast<double>(items.size());
  for (const double score : scores) summary.accuracy += score / n;
  summary.strict_accuracy = strict;
  summary.interval = bootstrap_mean(scores);
  summary.pass_1 = mean_pass(items, 1, false);
  summary.pass_5 = mean_pass(items, 5, false);
  summary.strict_pass_1 = mean_pass(items, 1, true);
  summary.strict_pass_5 = mean_pass(items, 5, true);
  for (const auto& [name, sums] : categories)
    summary.categories.push_back(
        {std::string(name), sums.first, sums.second / static_cast<double>(sums.first)});
  return summary;
}

Result<void> write_verdicts(const std::filesystem::path& path, std::span<const ScoredItem> items,
                            Task task) {
  using Json = nlohmann::ordered_json;
  auto file = AtomicFile::create(path);
  if (!file) return fail(file.error());
  for (const ScoredItem& item : items) {
    Json extracted = Json::array(), verdict = Json::array(), score = Json::array();
    for (const Verdict& v : item.verdicts) {
      extracted.push_back(v.extracted ? Json(*v.extracted) : Json(nullptr));
      verdict.push_back(!v.guessed && v.score > 0.5);
      score.push_back(v.score);
    }
    const std::string& id = item.id;
    Json line;
    if (task == Task::kMmluPro)
      line["question_id"] = id.find_first_not_of("0123456789") == id.npos && id.size() < 18
                                ? Json(std::stoll(id))
                                : Json(id);
    else
      line["id"] = id;
    line["extracted"] = item.is_list ? extracted : extracted[0];
    line["verdict"] = item.is_list ? verdict : verdict[0];
    line["score"] = item.is_list ? score : score[0];
    const std::string text = json_line(line);
    if (auto written = file->write(std::as_bytes(std::span(text))); !written) return written;
  }
  return file->commit();
}

}  // namespace kquant
