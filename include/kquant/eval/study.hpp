#pragma once
// The whole grid: models x quantization levels x tasks, as a configuration file says.
//
//     {"title": "…",
//      "models": [{"name": "embedded", "path": "embedded.gguf"}],
//      "levels": ["Q2_K", "Q4_K_M", "Q8_0", "F16"],   "reference": "F16",
//      "calibration": "text.txt",                      of recipes that need an importance matrix
//      "tasks": [{"task": "mmlu-pro", "data": "test.jsonl", "shots": "validation.jsonl", "limit":
//      500},
//                {"task": "divergence", "data": "text.txt"}]}
//
// Paths are relative to the file. In its folder a study keeps
//
//     models/MODEL-LEVEL.gguf   results/MODEL/LEVEL/TASK.jsonl   study.json

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kquant/eval/evaluation.hpp"
#include "kquant/eval/text_results.hpp"

namespace kquant {

enum class StudyTaskKind { kBenchmark, kPerplexity, kDivergence };

struct StudyTask {
  std::string name;  ///< of its files: the task, or "name" where one task stands there twice
  StudyTaskKind kind = StudyTaskKind::kBenchmark;
  EvaluationOptions evaluation;  ///< of a benchmark
  TextEvaluationOptions text;    ///< else
};

struct StudyModel {
  std::string name;
  std::filesystem::path path;
};

struct StudyConfig {
  std::string title;
  std::vector<StudyModel> models;
  std::vector<std::string> levels;  ///< recipes, in the order of reports
  std::string reference;            ///< the level others are compared with
  std::filesystem::path calibration;
  std::vector<StudyTask> tasks;
};

/// Errors: kNotFound, kIo, kBadFile (no JSON, a field missing, mistyped or unknown: names it),
/// kInvalidArgument (an unknown recipe, task or mode).
Result<StudyConfig> read_study(const std::filesystem::path& path);

struct StudyProgress {
  std::string model, level, task;
  double share = 0;                 ///< of the whole grid
  std::size_t done = 0, total = 0;  ///< samples or windows of this cell
};

struct StudyOptions {
  Shard shard;  ///< of the samples of each benchmark, and of the cells of other tasks
  bool without_bubblewrap = false;
  /// Often; return false to stop (kInvalidArgument "interrupted"): a later run goes on from there.
  std::function<bool(const StudyProgress&)> progress = {};
};

/// Quantizes what is missing and measures what is missing. A model whose file is of that level
/// already is used as it is. Errors: those of the parts, naming model, level and task.
Result<void> run_study(const StudyConfig& config, const std::filesystem::path& folder,
                       const StudyOptions& options = {});

/// Puts together what shards have measured, in `folder` itself and in the `others`.
/// Errors: kNotFound (samples that no shard has: says of which cell), kInvalidArgument (shards of
/// different models, data or settings).
Result<void> merge_study(const StudyConfig& config, const std::filesystem::path& folder,
                         std::span<const std::filesystem::path> others = {});

}  // namespace kquant
