#pragma once
// What a report says, before it has a form.

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "eval/model_facts.hpp"
#include "kquant/eval/perplexity.hpp"
#include "kquant/eval/score.hpp"
#include "kquant/eval/statistics.hpp"

namespace kquant {

/// One level on one benchmark.
struct ReportCell {
  Summary summary;
  std::size_t too_long = 0, fewer_shots = 0;
  std::map<std::string, double> scores;  ///< of each item: what pairs are made of
  std::optional<PairedFlips> flips;      ///< against the reference level
};

struct ReportLevel {
  std::string name;
  std::optional<ModelFacts> facts;
  std::map<std::string, ReportCell> cells;  ///< by the task's name
  std::optional<PerplexityResult> text;     ///< perplexity, and divergence where it was measured
  /// Mean accuracy over the benchmarks; nullopt where one is missing.
  std::optional<double> mean_accuracy;
  /// No benchmark tells it from the reference level.
  bool within_noise = false;
};

struct ReportTask {
  std::string name, task, mode;
  bool is_code() const { return task.starts_with("cruxeval"); }
};

struct ReportModel {
  std::string name;
  std::vector<ReportLevel> levels;  ///< measured ones, by bits a weight
  std::optional<std::size_t> reference, recommended, diminishing;  ///< indices of levels
  std::string advice;                                              ///< in plain words
};

struct Report {
  std::string title, reference;
  std::vector<ReportTask> tasks;  ///< benchmarks, in the study's order
  std::vector<ReportModel> models;
  std::vector<std::string> missing;  ///< cells: "model level task"
  bool has_text = false, has_divergence = false;
};

/// Errors: as write_report().
Result<Report> gather_report(const std::filesystem::path& folder);

/// The level after which more bits bring least: of the points (bits, accuracy), the one farthest
/// above the straight line from the first to the last ("knee"). nullopt for fewer than three.
std::optional<std::size_t> knee(const std::vector<std::pair<double, double>>& points);

}  // namespace kquant
