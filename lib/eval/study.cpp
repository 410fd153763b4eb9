#include "kquant/eval/study.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "eval/model_facts.hpp"
#include "eval/results.hpp"
#include "eval/study_files.hpp"
#include "eval/whole_file.hpp"
#include "kquant/eval/calibration.hpp"
#include "kquant/eval/content_hash.hpp"
#include "kquant/quantize_model.hpp"

namespace kquant {
namespace {

namespace fs = std::filesystem;

/// A level of a model, as a file.
struct LevelFile {
  fs::path path;
  ModelIdentity identity;
};

/// A model that is loaded when it is first needed: a study that is complete loads none.
class LazyModel {
 public:
  explicit LazyModel(fs::path path) : path_(std::move(path)) {}
  Result<Transformer*> load() {
    if (!model_) {
      auto loaded = Transformer::load(path_);
      if (!loaded) return fail(loaded.error());
      model_ = std::move(*loaded);
    }
    return &*model_;
  }
  Result<int> context_length() const {
    if (model_) return model_->config().context_length;
    const auto file = gguf::File::open(path_);
    if (!file) return fail(file.error());
    const auto config = read_config(*file);
    if (!config) return fail(config.error());
    return config->context_length;
  }

 private:
  fs::path path_;
  std::optional<Transformer> model_;
};

/// What is measured.
struct Subject {
  explicit Subject(LevelFile file)
      : identity(std::move(file.identity)), model(std::move(file.path)) {}
  ModelIdentity identity;
  LazyModel model;
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
    if (auto written = write_whole(files_.origin(model_.name, level), origin.dump(2) + "\n");
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
    const auto text = read_whole(files_.origin(model_.name, level));
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
    const auto text = read_whole(config_.calibration);
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
      std::optional<Subject> reference;
      if (divergence) {
        auto file = levels->make(config_.reference);
        if (!file) return fail(file.error(), fmt::format("{} {}", model.name, config_.reference));
        reference.emplace(std::move(*file));
      }
      for (const std::string& level : config_.levels) {
        const std::string where = fmt::format("{} {}", model.name, level);
        if (!report(model.name, level, "quantize", 0, 0)) return interrupted();
        auto file = levels->make(level);
        if (!file) return fail(file.error(), where);
        Subject subject(std::move(*file));
        if (options_.shard.index == 0)
          if (auto done = measure(subject, files_.facts(model.name, level)); !done)
            return fail(done.error(), where);
        for (const StudyTask& task : config_.tasks) {
          auto done = task.kind == StudyTaskKind::kBenchmark
                          ? ask(model.name, level, task, subject)
                          : read(model.name, level, task, subject, reference);
          if (!done) return fail(done.error(), fmt::format("{} {}", where, task.name));
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

  static Result<void> measure(Subject& subject, const fs::path& path) {
    const auto known = is_measured(subject.identity, path);
    if (!known) return fail(known.error());
    if (*known) return {};
    const auto model = subject.model.load();
    if (!model) return fail(model.error());
    if (auto facts = measure_model(**model, subject.identity, path); !facts)
      return fail(facts.error());
    return {};
  }

  /// A benchmark.
  Result<void> ask(const std::string& model, const std::string& level, const StudyTask& task,
                   Subject& subject) {
    EvaluationOptions options = task.evaluation;
    options.shard = options_.shard;
    options.score.sandbox.without_bubblewrap = options_.without_bubblewrap;
    options.progress = [&](std::size_t done, std::size_t total) {
      return report(model, level, task.name, done, total);
    };
    const fs::path path = files_.results(model, level, task.name, options_.shard);
    const auto context_length = subject.model.context_length();
    if (!context_length) return fail(context_length.error());
    const auto known = is_evaluated(subject.identity, *context_length, options, path);
    if (!known) return fail(known.error());
    if (*known) return {};
    const auto loaded = subject.model.load();
    if (!loaded) return fail(loaded.error());
    if (auto done = evaluate(**loaded, subject.identity, options, path); !done)
      return fail(done.error());
    return {};
  }

  /// A text: perplexity, or divergence from the reference.
  Result<void> read(const std::string& model, const std::string& level, const StudyTask& task,
                    Subject& subject, std::optional<Subject>& reference) {
    if (cell_ % options_.shard.count != options_.shard.index) return {};
    TextEvaluationOptions options = task.text;
    options.progress = [&](int done, int total, double) {
      return report(model, level, task.name, static_cast<std::size_t>(done),
                    static_cast<std::size_t>(total));
    };
    const bool divergence = task.kind == StudyTaskKind::kDivergence;
    if (divergence) options.reference = reference->identity;
    const fs::path path = files_.results(model, level, task.name);
    const auto known = is_evaluated(subject.identity, options, path);
    if (!known) return fail(known.error());
    if (*known) return {};
    const auto loaded = subject.model.load();
    if (!loaded) return fail(loaded.error());
    Result<Transformer*> other = nullptr;
    if (divergence) other = reference->model.load();
    if (!other) return fail(other.error());
    if (auto done = evaluate_text(**loaded, subject.identity, *other, options, path); !done)
      return fail(done.error());
    return {};
  }

  const StudyConfig& config_;
  const StudyFiles files_;
  const StudyOptions& options_;
  std::size_t cell_ = 0, cells_ = 0;
};

}  // namespace

Result<void> run_study(const StudyConfig& config, const fs::path& folder,
                       const StudyOptions& options) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    return fail(ErrorCode::kIo,
                fmt::format("{}: cannot create: {}", folder.string(), error.message()));
  if (auto written = write_summary(config, folder); !written) return written;
  return Runner(config, folder, options).run();
}

}  // namespace kquant
