#include "kquant/eval/study.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <set>

#include "eval/model_facts.hpp"
#include "eval/results.hpp"
#include "eval/study_files.hpp"
#include "kquant/base/atomic_file.hpp"
#include "kquant/eval/calibration.hpp"
#include "kquant/eval/content_hash.hpp"
#include "kquant/quantize_model.hpp"

namespace kquant {
namespace {

namespace fs = std::filesystem;

Result<std::string> read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(ErrorCode::kIo, path.string() + ": cannot read");
  return std::string{std::istreambuf_iterator<char>(in), {}};
}

Result<void> write_text(const fs::path& path, const std::string& text) {
  auto file = AtomicFile::create(path);
  if (!file) return fail(file.error());
  if (auto written = file->write(std::as_bytes(std::span(text))); !written) return written;
  return file->commit();
}

/// A level of a model, as a file.
struct LevelFile {
  fs::path path;
  ModelIdentity identity;
};

/// Makes the levels of one model.
class Levels {
 public:
  static Result<Levels> open(const StudyConfig& config, const StudyModel& model,
                             const StudyFiles& files) {
    auto file = gguf::File::open(model.path);
    if (!file) return fail(file.error());
    auto identity = identify(model.path);
    if (!identity) return fail(identity.error());
    return Levels(config, model, files, std::move(*file), std::move(*identity));
  }

  Result<LevelFile> make(const std::string& level) {
    const auto recipe = find_recipe(level);
    if (!recipe) return fail(recipe.error());
    const auto type = file_.get_int("general.file_type");
    if (type && *type == static_cast<std::int64_t>(recipe->file_type))
      return LevelFile{model_.path, source_};
    std::string calibration_hash;
    if (recipe->needs_imatrix) {
      if (config_.calibration.empty())
        return fail(
            ErrorCode::kInvalidArgument,
            fmt::format("{} needs an importance matrix: give the study a 'calibration' text",
                        level));
      auto hash = file_hash(config_.calibration);
      if (!hash) return fail(hash.error());
      calibration_hash = *hash;
    }
    const fs::path path = files_.quantized(model_.name, level);
    ResultsJson origin = {
        {"source", source_.hash}, {"recipe", level}, {"calibration", calibration_hash}};
    if (auto known = known_hash(path, level, origin)) return LevelFile{path, *known};
    std::error_code error;
    fs::create_directories(path.parent_path(), error);
    QuantizeModelOptions options;
    if (recipe->needs_imatrix) {
      if (auto ready = collect(); !ready) return fail(ready.error());
      options.imatrix = &*imatrix_;
    }
    if (auto made = quantize_model(file_, path, *recipe, options); !made) return fail(made.error());
    auto identity = identify(path);
    if (!identity) return fail(identity.error());
    origin["hash"] = identity->hash;
    origin["bytes"] = fs::file_size(path, error);
    if (auto written = write_text(files_.origin(model_.name, level), origin.dump(2) + "\n");
        !written)
      return fail(written.error());
    return LevelFile{path, *identity};
  }

 private:
  Levels(const StudyConfig& config, const StudyModel& model, const StudyFiles& files,
         gguf::File file, ModelIdentity source)
      : config_(config),
        model_(model),
        files_(files),
        file_(std::move(file)),
        source_(std::move(source)) {}

  /// Of a file that was made of the same things before.
  std::optional<ModelIdentity> known_hash(const fs::path& path, const std::string& level,
                                          const ResultsJson& origin) const {
    std::error_code error;
    const auto text = read_text(files_.origin(model_.name, level));
    if (!text || !fs::exists(path, error)) return std::nullopt;
    const auto found = ResultsJson::parse(*text, nullptr, false);
    if (!found.is_object() || found.value("bytes", std::uintmax_t{0}) != fs::file_size(path, error))
      return std::nullopt;
    for (const auto& [key, value] : origin.items())
      if (!found.contains(key) || found[key] != value) return std::nullopt;
    return ModelIdentity{path.filename().string(), found.value("hash", "")};
  }

  Result<void> collect() {
    if (imatrix_) return {};
    const auto text = read_text(config_.calibration);
    if (!text) return fail(text.error());
    auto model = Transformer::load(model_.path);
    if (!model) return fail(model.error());
    auto imatrix = collect_imatrix(*model, *text);
    if (!imatrix) return fail(imatrix.error());
    imatrix_ = std::move(*imatrix);
    return {};
  }

  const StudyConfig& config_;
  const StudyModel& model_;
  const StudyFiles& files_;
  gguf::File file_;
  ModelIdentity source_;
  std::optional<Imatrix> imatrix_;
};

/// What a report needs to know beside the results.
ResultsJson summary_of(const StudyConfig& config) {
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
  return out;
}

class Runner {
 public:
  Runner(const StudyConfig& config, const fs::path& folder, const StudyOptions& options)
      : config_(config), files_(folder), options_(options) {
    cells_ = config.models.size() * config.levels.size() * config.tasks.size();
  }

  Result<void> run() {
    for (const StudyModel& model : config_.models) {
      auto levels = Levels::open(config_, model, files_);
      if (!levels) return fail(levels.error(), model.name);
      const bool divergence = std::ranges::any_of(config_.tasks, [](const StudyTask& task) {
        return task.kind == StudyTaskKind::kDivergence;
      });
      std::optional<LevelFile> reference;
      std::optional<Transformer> reference_model;
      if (divergence) {
        auto file = levels->make(config_.reference);
        if (!file) return fail(file.error(), fmt::format("{} {}", model.name, config_.reference));
        auto loaded = Transformer::load(file->path);
        if (!loaded) return fail(loaded.error());
        reference = std::move(*file);
        reference_model = std::move(*loaded);
      }
      for (const std::string& level : config_.levels) {
        const std::string where = fmt::format("{} {}", model.name, level);
        if (!report(model.name, level, "quantize", 0, 0)) return interrupted();
        auto file = levels->make(level);
        if (!file) return fail(file.error(), where);
        auto loaded = Transformer::load(file->path);
        if (!loaded) return fail(loaded.error(), where);
        if (options_.shard.index == 0)
          if (auto facts = measure_model(*loaded, file->identity, files_.facts(model.name, level));
              !facts)
            return fail(facts.error(), where);
        for (const StudyTask& task : config_.tasks) {
          if (auto done = run_cell(model.name, level, task, *loaded, file->identity,
                                   reference_model ? &*reference_model : nullptr,
                                   reference ? reference->identity : ModelIdentity{});
              !done)
            return fail(done.error(), fmt::format("{} {}", where, task.name));
          ++cell_;
        }
      }
    }
    return {};
  }

 private:
  static tl::unexpected<Error> interrupted() {
    return fail(ErrorCode::kInvalidArgument, "interrupted");
  }

  bool report(const std::string& model, const std::string& level, const std::string& task,
              std::size_t done, std::size_t total) const {
    if (!options_.progress) return true;
    const double part = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0;
    return options_.progress({model, level, task,
                              (static_cast<double>(cell_) + part) / static_cast<double>(cells_),
                              done, total});
  }

  Result<void> run_cell(const std::string& model, const std::string& level, const StudyTask& task,
                        Transformer& loaded, const ModelIdentity& identity,
                        Transformer* reference_model, const ModelIdentity& reference) {
    if (task.kind == StudyTaskKind::kBenchmark) {
      EvaluationOptions options = task.evaluation;
      options.shard = options_.shard;
      options.score.sandbox.without_bubblewrap = options_.without_bubblewrap;
      options.progress = [&](std::size_t done, std::size_t total) {
        return report(model, level, task.name, done, total);
      };
      auto done = evaluate(loaded, identity, options,
                           files_.results(model, level, task.name, options_.shard));
      if (!done) return fail(done.error());
      return {};
    }
    if (cell_ % options_.shard.count != options_.shard.index) return {};
    TextEvaluationOptions options = task.text;
    options.progress = [&](int done, int total, double) {
      return report(model, level, task.name, static_cast<std::size_t>(done),
                    static_cast<std::size_t>(total));
    };
    const bool divergence = task.kind == StudyTaskKind::kDivergence;
    if (divergence) options.reference = reference;
    auto done = evaluate_text(loaded, identity, divergence ? reference_model : nullptr, options,
                              files_.results(model, level, task.name));
    if (!done) return fail(done.error());
    return {};
  }

  const StudyConfig& config_;
  const StudyFiles files_;
  const StudyOptions& options_;
  std::size_t cell_ = 0, cells_ = 0;
};

/// Copies a finished file of results where none is yet.
Result<void> adopt(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (fs::exists(to, error) || !fs::exists(from, error)) return {};
  const auto text = read_text(from);
  if (!text) return fail(text.error());
  fs::create_directories(to.parent_path(), error);
  return write_text(to, *text);
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

Result<void> run_study(const StudyConfig& config, const fs::path& folder,
                       const StudyOptions& options) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    return fail(ErrorCode::kIo,
                fmt::format("{}: cannot create: {}", folder.string(), error.message()));
  if (auto written = write_text(StudyFiles(folder).summary(), summary_of(config).dump(2) + "\n");
      !written)
    return written;
  return Runner(config, folder, options).run();
}

Result<void> merge_study(const StudyConfig& config, const fs::path& folder,
                         std::span<const fs::path> others) {
  std::error_code error;
  fs::create_directories(folder, error);
  std::vector<fs::path> folders{folder};
  folders.insert(folders.end(), others.begin(), others.end());
  const StudyFiles files(folder);
  if (auto written = write_text(files.summary(), summary_of(config).dump(2) + "\n"); !written)
    return written;
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
