#pragma once
// Outputs of a model, whoever generated them, judged and summed up.

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kquant/eval/statistics.hpp"
#include "kquant/eval/task.hpp"

namespace kquant {

/// One item's outputs with their verdicts.
struct ScoredItem {
  std::size_t item = 0;  ///< in the benchmark
  std::string id, category;
  std::vector<std::string> outputs;
  std::vector<Verdict> verdicts;
  bool is_list = false;  ///< its line had "generations", not "generated_text"

  /// Share of its outputs that are right: pass@1. The benchmark's own rules skip rejected ones.
  double score() const;
  double strict_score() const;
};

/// Reads {"question_id" | "id", "generated_text" | "generations": […]} a line (plain or .gz).
/// Errors: kNotFound, kIo, kBadFile (file, line and field; an id that the benchmark does not have,
/// or that came before).
Result<std::vector<ScoredItem>> read_outputs(const std::filesystem::path& path,
                                             const Benchmark& benchmark);

/// Fills the verdicts.
Result<void> judge(std::span<ScoredItem> items, const Benchmark& benchmark,
                   const ScoreOptions& options);

/// Accuracies and pass@k are shares, not percent.
struct Summary {
  std::size_t items = 0, outputs = 0;
  std::size_t guessed = 0, rejected = 0;  ///< outputs
  std::size_t least_outputs = 0;          ///< of an item
  double accuracy = 0, strict_accuracy = 0;
  Interval interval;              ///< of accuracy, 95 %, over items
  double pass_1 = 0, pass_5 = 0;  ///< mean pass@k over items
  double strict_pass_1 = 0, strict_pass_5 = 0;

  struct Category {
    std::string name;
    std::size_t items = 0;
    double accuracy = 0;
  };
  std::vector<Category> categories;  ///< in alphabetical order; empty where there are none
};
Summary summarize(std::span<const ScoredItem> items);

/// Writes id, extracted answer (null where none) and verdict of every item, one JSON object a line
/// in the order given; lists of those where the outputs came as lists. Errors: kIo.
Result<void> write_verdicts(const std::filesystem::path& path, std::span<const ScoredItem> items,
                            Task task);

}  // namespace kquant
