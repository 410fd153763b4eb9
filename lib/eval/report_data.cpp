#include "eval/report_data.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>

#include "eval/results.hpp"
#include "eval/study_files.hpp"
#include "eval/text_measures.hpp"

namespace kquant {
namespace {

namespace fs = std::filesystem;
constexpr double kSignificant = 0.05;
/// A level whose perplexity is surely worse by more than this is not recommended, even where too
/// few or too hard items show no difference.
constexpr double kMostPerplexityLost = 0.02;

Result<ResultsJson> read_summary(const fs::path& folder) {
  const fs::path path = StudyFiles(folder).summary();
  std::ifstream in(path, std::ios::binary);
  if (!in)
    return fail(ErrorCode::kNotFound,
                fmt::format("{}: not there: is this the folder of a study?", path.string()));
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  auto json = ResultsJson::parse(text, nullptr, false);
  for (const char* const key : {"levels", "models", "tasks"})
    if (!json.is_object() || !json.contains(key) || !json[key].is_array())
      return fail(ErrorCode::kBadFile, fmt::format("{}: no list '{}'", path.string(), key));
  return json;
}

Result<ReportCell> cell_of(const ResultsFile& results) {
  const auto items = scored_items(results);
  if (!items) return fail(items.error());
  ReportCell cell;
  cell.summary = summarize(*items);
  for (const ScoredItem& item : *items) cell.scores[item.id] = item.score();
  for (const ResultsJson& line : results.lines)
    cell.too_long += line.value("finish", "") == "too_long";
  return cell;
}

/// Whether the text alone shows that a level is worse than the reference.
bool predicts_worse(const ReportLevel& level) {
  if (!level.text || !level.text->divergence) return false;
  const Estimate& ratio = level.text->divergence->log_ratio;
  return ratio.mean - 1.96 * ratio.error > std::log1p(kMostPerplexityLost);
}

PairedFlips flips_of(const ReportCell& reference, const ReportCell& cell) {
  std::vector<double> before, after;
  for (const auto& [id, score] : cell.scores)
    if (const auto found = reference.scores.find(id); found != reference.scores.end()) {
      before.push_back(found->second);
      after.push_back(score);
    }
  return paired_flips(before, after);
}

Result<ReportLevel> read_level(const StudyFiles& files, const std::string& model,
                               const std::string& level, const ResultsJson& tasks, Report& report) {
  ReportLevel out;
  out.name = level;
  std::error_code error;
  const auto missing = [&](const std::string& task) {
    report.missing.push_back(fmt::format("{} {} {}", model, level, task));
  };
  if (fs::exists(files.facts(model, level), error)) {
    auto facts = read_facts(files.facts(model, level));
    if (!facts) return fail(facts.error());
    out.facts = *facts;
  }
  for (const ResultsJson& entry : tasks) {
    const std::string task = entry.value("name", ""), kind = entry.value("task", "");
    const fs::path path = files.results(model, level, task);
    if (!fs::exists(path, error)) {
      missing(task);
      continue;
    }
    const auto results = read_results(path);
    if (!results) return fail(results.error());
    if (!results->complete() || results->lines.empty()) {
      missing(task);
      continue;
    }
    if (kind == "perplexity" || kind == "divergence") {
      auto measures = measures_of(results->lines[0]);
      if (!measures) return fail(measures.error(), path.string());
      if (!out.text || kind == "divergence") out.text = std::move(*measures);
      report.has_text = true;
      report.has_divergence = report.has_divergence || out.text->divergence.has_value();
      continue;
    }
    auto cell = cell_of(*results);
    if (!cell) return fail(cell.error(), path.string());
    for (ReportTask& of_report : report.tasks)
      if (of_report.name == task) of_report.mode = results->header.value("mode", "");
    out.cells.emplace(task, std::move(*cell));
  }
  return out;
}

/// Compares each level with the reference, and says what to take.
void compare(ReportModel& model, const Report& report) {
  for (std::size_t i = 0; i < model.levels.size(); ++i)
    if (model.levels[i].name == report.reference) model.reference = i;
  std::vector<std::pair<double, double>> points;
  for (ReportLevel& level : model.levels) {
    double sum = 0;
    for (const auto& [task, cell] : level.cells) sum += cell.summary.accuracy;
    if (!report.tasks.empty() && level.cells.size() == report.tasks.size()) {
      level.mean_accuracy = sum / static_cast<double>(level.cells.size());
      points.emplace_back(level.facts->bits_per_weight, *level.mean_accuracy);
    }
    if (!model.reference) continue;
    const ReportLevel& reference = model.levels[*model.reference];
    level.within_noise = level.mean_accuracy.has_value();
    for (auto& [task, cell] : level.cells) {
      const auto of_reference = reference.cells.find(task);
      if (of_reference == reference.cells.end()) continue;
      cell.flips = flips_of(of_reference->second, cell);
      // Several tests a level: each at its share of the error (Bonferroni).
      if (cell.flips->p < kSignificant / static_cast<double>(report.tasks.size()))
        level.within_noise = false;
    }
  }
  if (points.size() == model.levels.size()) model.diminishing = knee(points);
  if (!model.reference || points.size() != model.levels.size()) return;
  // The smallest that is within the noise with all that are larger.
  for (std::size_t i = *model.reference + 1; i-- > 0;) {
    if (!model.levels[i].within_noise || predicts_worse(model.levels[i])) break;
    model.recommended = i;
  }
}

std::string advice_of(const ReportModel& model) {
  if (!model.reference || !model.recommended)
    return "Not enough is measured yet for a recommendation.";
  const ReportLevel &reference = model.levels[*model.reference],
                    &level = model.levels[*model.recommended];
  std::string out;
  if (*model.recommended == *model.reference) {
    out = fmt::format("No level below {} is within its noise.", reference.name);
  } else {
    out = fmt::format("{}: within the noise of {} at {:.0f} % of the bytes.", level.name,
                      reference.name,
                      100 * static_cast<double>(level.facts->bytes) /
                          static_cast<double>(reference.facts->bytes));
  }
  if (*model.recommended > 0) {
    const ReportLevel& next = model.levels[*model.recommended - 1];
    double worst = 0;
    std::string where;
    for (const auto& [task, cell] : next.cells) {
      const auto found = reference.cells.find(task);
      if (found == reference.cells.end()) continue;
      const double lost = found->second.summary.accuracy - cell.summary.accuracy;
      if (lost > worst) {
        worst = lost;
        where = task;
      }
    }
    if (predicts_worse(next))
      out += fmt::format(" The next smaller one, {}, has {:.1f} % more perplexity.", next.name,
                         100 * std::expm1(next.text->divergence->log_ratio.mean));
    if (!where.empty() && !next.within_noise)
      out += fmt::format(" {} loses most on {}: {:.1f} points.", next.name, where, 100 * worst);
  }
  constexpr std::size_t kFew = 500;
  std::size_t items = 0;
  for (const auto& [task, cell] : reference.cells) items += cell.summary.items;
  if (items < kFew)
    out += fmt::format(" With {} items in all, only a collapse would show in the answers.", items);
  if (model.diminishing)
    out += fmt::format(" Returns diminish after {}.", model.levels[*model.diminishing].name);
  return out;
}

}  // namespace

std::optional<std::size_t> knee(const std::vector<std::pair<double, double>>& points) {
  if (points.size() < 3) return std::nullopt;
  const auto [x0, y0] = points.front();
  const auto [x1, y1] = points.back();
  if (x1 <= x0) return std::nullopt;
  std::optional<std::size_t> best;
  double farthest = 0;
  for (std::size_t i = 1; i + 1 < points.size(); ++i) {
    const double line = y0 + (y1 - y0) * (points[i].first - x0) / (x1 - x0);
    if (points[i].second - line > farthest) {
      farthest = points[i].second - line;
      best = i;
    }
  }
  return best;
}

Result<Report> gather_report(const fs::path& folder) {
  const auto summary = read_summary(folder);
  if (!summary) return fail(summary.error());
  const ResultsJson& json = *summary;
  const StudyFiles files(folder);
  Report report;
  report.title = json.value("title", "");
  if (report.title.empty()) report.title = "What each quantization level costs";
  report.reference = json.value("reference", "");
  for (const ResultsJson& task : json["tasks"])
    if (const std::string kind = task.value("task", "");
        kind != "perplexity" && kind != "divergence")
      report.tasks.push_back({task.value("name", ""), kind, ""});
  for (const ResultsJson& name : json["models"]) {
    ReportModel model;
    model.name = name.get<std::string>();
    for (const ResultsJson& level : json["levels"]) {
      auto read = read_level(files, model.name, level.get<std::string>(), json["tasks"], report);
      if (!read) return fail(read.error());
      if (read->facts) model.levels.push_back(std::move(*read));
    }
    std::ranges::stable_sort(model.levels, {},
                             [](const ReportLevel& level) { return level.facts->bits_per_weight; });
    compare(model, report);
    model.advice = advice_of(model);
    report.models.push_back(std::move(model));
  }
  return report;
}

}  // namespace kquant
