#include "eval/study_files.hpp"

#include "eval/results.hpp"
#include "eval/whole_file.hpp"

namespace kquant {

Result<void> write_summary(const StudyConfig& config, const std::filesystem::path& folder) {
  ResultsJson out = {{"title", config.title},
                     {"levels", config.levels},
                     {"reference", config.reference},
                     {"models", ResultsJson::array()},
                     {"tasks", ResultsJson::array()}};
  for (const StudyModel& model : config.models) out["models"].push_back(model.name);
  for (const StudyTask& task : config.tasks) {
    ResultsJson entry = {{"name", task.name}};
    if (task.kind == StudyTaskKind::kBenchmark)
      entry["task"] = name(task.evaluation.task);
    else
      entry["task"] = task.kind == StudyTaskKind::kPerplexity ? "perplexity" : "divergence";
    out["tasks"].push_back(std::move(entry));
  }
  return write_whole(StudyFiles(folder).summary(), out.dump(2) + "\n");
}

}  // namespace kquant
