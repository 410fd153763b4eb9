#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "kquant/eval/study.hpp"
#include "kquant/recipe.hpp"

namespace kquant {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

/// An object of the file whose fields are taken one by one; a mistyped one throws Json::exception,
/// which read_study() turns into an error.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object())
      throw Error{ErrorCode::kBadFile, fmt::format("{}: expected an object", where_)};
  }

  template <class T>
  void take(const char* key, T& value) {
    seen_.insert(key);
    const auto found = object_.find(key);
    if (found == object_.end()) return;
    try {
      if constexpr (std::is_unsigned_v<T> && !std::is_same_v<T, bool>) {
        if (!found->is_number_unsigned()) throw Error{};
      }
      value = found->get<T>();
    } catch (...) {
      throw Error{ErrorCode::kBadFile,
                  fmt::format("{}: field '{}': {} does not fit", where_, key, found->dump())};
    }
  }
  template <class T>
  void require(const char* key, T& value) {
    if (!object_.contains(key))
      throw Error{ErrorCode::kBadFile, fmt::format("{}: field '{}' is missing", where_, key)};
    take(key, value);
  }
  void path(const char* key, const fs::path& base, fs::path& value) {
    std::string text;
    take(key, text);
    if (!text.empty()) value = base / text;
  }
  const Json& list(const char* key) {
    seen_.insert(key);
    const auto found = object_.find(key);
    if (found == object_.end() || !found->is_array() || found->empty())
      throw Error{
          ErrorCode::kBadFile,
          fmt::format("{}: field '{}': expected a list with at least one element", where_, key)};
    return *found;
  }
  /// A mistyped name would be ignored silently.
  void finish() const {
    for (const auto& [key, value] : object_.items())
      if (!seen_.contains(key))
        throw Error{ErrorCode::kBadFile, fmt::format("{}: unknown field '{}'", where_, key)};
  }

 private:
  const Json& object_;
  std::string where_;
  std::unordered_set<std::string> seen_;
};

template <class T>
T value_of(Result<T> result) {
  if (!result) throw std::move(result.error());
  return std::move(*result);
}

StudyTask read_task(const Json& object, const std::string& where, const fs::path& base) {
  StudyTask task;
  Fields fields(object, where);
  std::string kind, mode, rules;
  fields.require("task", kind);
  task.name = kind;
  fields.take("name", task.name);
  fs::path data;
  fields.path("data", base, data);
  if (data.empty())
    throw Error{ErrorCode::kBadFile, fmt::format("{}: field 'data' is missing", where)};
  if (kind == "perplexity" || kind == "divergence") {
    task.kind = kind == "perplexity" ? StudyTaskKind::kPerplexity : StudyTaskKind::kDivergence;
    task.text.text = data;
    fields.take("window", task.text.context);
    fields.take("chunks", task.text.chunks);
  } else {
    EvaluationOptions& e = task.evaluation;
    e.task = value_of(find_task(kind));
    e.data = data;
    fields.path("shots", base, e.shots);
    fields.take("mode", mode);
    if (!mode.empty()) e.mode = value_of(find_mode(mode));
    fields.take("rules", rules);
    if (!rules.empty()) e.score.rules = value_of(find_mmlu_pro_rules(rules));
    fields.take("chat", e.chat);
    fields.take("limit", e.limit);
    fields.take("seed", e.seed);
    fields.take("samples", e.samples);
    fields.take("temperature", e.sampler.temperature);
    fields.take("top_k", e.sampler.top_k);
    fields.take("top_p", e.sampler.top_p);
    fields.take("context", e.context);
    fields.take("max_tokens", e.max_tokens);
    fields.take("batch", e.batch);
  }
  fields.finish();
  return task;
}

void check_names(const StudyConfig& config) {
  std::unordered_set<std::string> seen;
  const auto check = [&](const std::string& what, const std::string& name) {
    if (name.empty() || name.find_first_of("/\\") != name.npos || name.front() == '.')
      throw Error{ErrorCode::kBadFile,
                  fmt::format("the name '{}' cannot be part of a file's name", name)};
    if (!seen.insert(what + "/" + name).second)
      throw Error{ErrorCode::kBadFile, fmt::format("two {} have the name '{}'", what, name)};
  };
  for (const StudyModel& model : config.models) check("models", model.name);
  for (const StudyTask& task : config.tasks) check("tasks", task.name);
  for (const std::string& level : config.levels) check("levels", level);
  if (std::ranges::find(config.levels, config.reference) == config.levels.end())
    throw Error{ErrorCode::kBadFile,
                fmt::format("the reference '{}' is none of the levels", config.reference)};
}

StudyConfig read(const Json& json, const fs::path& base) {
  StudyConfig config;
  Fields fields(json, "the study");
  fields.take("title", config.title);
  for (const Json& object : fields.list("models")) {
    StudyModel model;
    Fields of_model(object, fmt::format("model {}", config.models.size() + 1));
    of_model.path("path", base, model.path);
    model.name = model.path.stem().string();
    of_model.take("name", model.name);
    of_model.finish();
    if (model.path.empty())
      throw Error{ErrorCode::kBadFile,
                  fmt::format("model {}: field 'path' is missing", config.models.size() + 1)};
    config.models.push_back(std::move(model));
  }
  for (const Json& level : fields.list("levels"))
    config.levels.emplace_back(
        value_of(find_recipe(level.is_string() ? level.get<std::string>() : level.dump())).name);
  config.reference = config.levels.back();
  fields.take("reference", config.reference);
  fields.path("calibration", base, config.calibration);
  for (const Json& object : fields.list("tasks"))
    config.tasks.push_back(
        read_task(object, fmt::format("task {}", config.tasks.size() + 1), base));
  fields.finish();
  check_names(config);
  return config;
}

}  // namespace

Result<StudyConfig> read_study(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(ErrorCode::kNotFound, path.string() + ": cannot read");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  try {
    return read(Json::parse(text), path.parent_path());
  } catch (const Error& error) {
    return fail(error, path.string());
  } catch (const Json::exception& error) {
    return fail(ErrorCode::kBadFile, fmt::format("{}: no JSON: {}", path.string(), error.what()));
  }
}

}  // namespace kquant
