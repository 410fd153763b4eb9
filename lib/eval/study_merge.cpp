#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "eval/results.hpp"
#include "eval/study_files.hpp"
#include "eval/whole_file.hpp"
#include "kquant/eval/study.hpp"

namespace kquant {
namespace {

namespace fs = std::filesystem;

/// Copies a finished file of results where none is yet.
Result<void> adopt(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (fs::exists(to, error) || !fs::exists(from, error)) return {};
  const auto text = read_whole(from);
  if (!text) return fail(text.error());
  fs::create_directories(to.parent_path(), error);
  return write_whole(to, *text);
}

/// All shards of one cell, in all folders, as one file.
Result<void> merge_cell(std::span<const fs::path> folders, const std::string& model,
                        const std::string& level, const StudyTask& task) {
  const fs::path target = StudyFiles(folders.front()).results(model, level, task.name);
  std::error_code error;
  if (fs::exists(target, error)) return {};
  std::set<fs::path> parts;
  for (const fs::path& folder : folders) {
    const StudyFiles files(folder);
    if (auto adopted = adopt(files.results(model, level, task.name), target); !adopted)
      return adopted;
    for (const auto& entry : fs::directory_iterator(files.cell(model, level), error))
      if (entry.path().filename().string().starts_with(task.name + ".shard-"))
        parts.insert(entry.path());
  }
  if (fs::exists(target, error)) return {};
  std::optional<ResultsFile> merged;
  std::size_t count = 0;
  std::set<std::size_t> shards;
  for (const fs::path& part : parts) {
    auto results = read_results(part);
    if (!results) return fail(results.error());
    if (merged) {
      if (auto same = check_same_results(part, results->header, merged->header); !same) return same;
    }
    if (!results->complete())
      return fail(ErrorCode::kNotFound, part.string() + ": is not complete, run the shard again");
    const ResultsJson shard = results->header.value("shard", ResultsJson::array({0, 1}));
    shards.insert(shard[0].get<std::size_t>());
    count = std::max(count, shard[1].get<std::size_t>());
    if (!merged)
      merged = ResultsFile{results->header, {}};
    else
      for (const auto& run : results->header["runs"]) merged->header["runs"].push_back(run);
    for (ResultsJson& line : results->lines) merged->lines.push_back(std::move(line));
  }
  if (!merged || shards.size() != count)
    return fail(ErrorCode::kNotFound,
                fmt::format("{} {} {}: found {} of {} shards", model, level, task.name,
                            shards.size(), count == 0 ? "unknown many" : std::to_string(count)));
  merged->header["shard"] = {0, 1};
  const auto benchmark = Benchmark::load(task.evaluation.task, task.evaluation.data);
  if (!benchmark) return fail(benchmark.error());
  std::map<std::string, std::size_t> order;
  for (std::size_t i = 0; i < (*benchmark)->size(); ++i) order.emplace((*benchmark)->id(i), i);
  std::ranges::stable_sort(merged->lines, {}, [&](const ResultsJson& line) {
    return std::pair(order[line.value("id", "")], line.value("sample", std::size_t{0}));
  });
  return write_results(target, *merged);
}

}  // namespace

Result<void> merge_study(const StudyConfig& config, const fs::path& folder,
                         std::span<const fs::path> others) {
  std::error_code error;
  fs::create_directories(folder, error);
  std::vector<fs::path> folders{folder};
  folders.insert(folders.end(), others.begin(), others.end());
  const StudyFiles files(folder);
  if (auto written = write_summary(config, folder); !written) return written;
  for (const StudyModel& model : config.models)
    for (const std::string& level : config.levels) {
      for (const fs::path& other : others)
        if (auto adopted =
                adopt(StudyFiles(other).facts(model.name, level), files.facts(model.name, level));
            !adopted)
          return adopted;
      for (const StudyTask& task : config.tasks) {
        if (task.kind == StudyTaskKind::kBenchmark) {
          if (auto merged = merge_cell(folders, model.name, level, task); !merged) return merged;
          continue;
        }
        const fs::path target = files.results(model.name, level, task.name);
        for (const fs::path& other : others)
          if (auto adopted = adopt(StudyFiles(other).results(model.name, level, task.name), target);
              !adopted)
            return adopted;
        if (!fs::exists(target, error))
          return fail(ErrorCode::kNotFound, fmt::format("{} {} {}: no shard has measured it",
                                                        model.name, level, task.name));
      }
    }
  return {};
}

}  // namespace kquant
