#include "kquant/eval/evaluation.hpp"

#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kquant/quantize_model.hpp"
#include "shared_data.hpp"

using namespace kquant;
using namespace kquant::test;
using Catch::Contains;

namespace {

const std::filesystem::path& model_file() {
  static const auto path = source_path("examples/embedded_model/embedded.gguf");
  return path;
}

Transformer embedded_model() {
  auto model = Transformer::load(model_file());
  REQUIRE(model);
  return std::move(*model);
}

EvaluationOptions options_for(Task task) {
  EvaluationOptions options;
  options.task = task;
  options.data = source_path(task == Task::kMmluPro ? "examples/embedded_model/eval/mmlu_pro.jsonl"
                             : task == Task::kMusr  ? "examples/embedded_model/eval/musr.jsonl"
                                                   : "examples/embedded_model/eval/cruxeval.jsonl");
  options.limit = 20;
  options.max_tokens = 48;
  options.batch = 4;
  return options;
}

/// Lines without what differs from run to run.
std::vector<nlohmann::json> lines_of(const std::filesystem::path& path) {
  std::istringstream in(read_text(path));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back(nlohmann::json::parse(line));
    for (const char* const key : {"seconds", "runs"}) lines.back().erase(key);
  }
  return lines;
}

}  // namespace

TEST_CASE("the embedded model is right about as often as it was when it was made") {
  Transformer model = embedded_model();
  const auto identity = identify(model_file());
  REQUIRE(identity);
  const TempDir dir;
  EvaluationOptions options = options_for(Task::kMmluPro);
  options.limit = 0;
  options.shots = source_path("examples/embedded_model/eval/mmlu_pro_validation.jsonl");
  options.context = 512;
  options.batch = 32;
  const auto result = evaluate(model, *identity, options, dir / "r.jsonl");
  REQUIRE(result);
  CHECK(result->summary.items == 224);
  CHECK(result->summary.accuracy > 0.93);
  CHECK(result->has_shots);
  CHECK(result->too_long == 0);
  CHECK(result->counts.shared_tokens > result->counts.prompt_tokens);
  CHECK(read_text(dir / "r.jsonl").find("\"prompt_hash\"") != std::string::npos);

  const auto again = score_results(dir / "r.jsonl", {}, {});
  REQUIRE(again);
  CHECK(again->summary.accuracy == result->summary.accuracy);
  // Complete: nothing is asked again.
  options.progress = [](std::size_t, std::size_t) { return false; };
  const auto unchanged = read_text(dir / "r.jsonl");
  const auto known = evaluate(model, *identity, options, dir / "r.jsonl");
  REQUIRE(known);
  CHECK(known->summary.accuracy == result->summary.accuracy);
  CHECK(read_text(dir / "r.jsonl") == unchanged);
}

TEST_CASE("a killed evaluation goes on without losing or repeating a sample") {
  Transformer model = embedded_model();
  const auto identity = identify(model_file());
  const TempDir dir;
  EvaluationOptions options = options_for(Task::kMusr);
  REQUIRE(evaluate(model, *identity, options, dir / "whole.jsonl"));

  options.progress = [](std::size_t done, std::size_t) { return done < 7; };
  const auto interrupted = evaluate(model, *identity, options, dir / "r.jsonl");
  REQUIRE_FALSE(interrupted);
  CHECK_THAT(interrupted.error().message, Contains("interrupted"));
  {
    std::ofstream out(dir / "r.jsonl", std::ios::app);
    out << R"({"id":"3","sample":0,"output":"killed in the mid)";
  }
  std::size_t first = 0, last = 0;
  options.progress = [&](std::size_t done, std::size_t total) {
    if (first == 0) first = done;
    last = done;
    CHECK(total == 20);
    return true;
  };
  REQUIRE(evaluate(model, *identity, options, dir / "r.jsonl"));
  CHECK(first == 8);
  CHECK(last == 20);
  CHECK(lines_of(dir / "r.jsonl") == lines_of(dir / "whole.jsonl"));
}

TEST_CASE("results of different models, data and settings do not mix") {
  Transformer model = embedded_model();
  const auto identity = identify(model_file());
  const TempDir dir;
  EvaluationOptions options = options_for(Task::kMusr);
  options.limit = 3;
  REQUIRE(evaluate(model, *identity, options, dir / "r.jsonl"));
  const auto error = [&](const ModelIdentity& who, const EvaluationOptions& how) {
    const auto result = evaluate(model, who, how, dir / "r.jsonl");
    REQUIRE_FALSE(result);
    return result.error().message;
  };
  CHECK_THAT(error({"other.gguf", "0123"}, options),
             Contains("holds other results") && Contains("model"));
  CHECK_THAT(error({identity->name, identity->hash, ActivationPrecision::kFloat}, options),
             Contains("model") && Contains("\"activations\":\"f32\""));
  auto changed = options;
  changed.limit = 4;
  CHECK_THAT(error(*identity, changed), Contains("settings") && Contains("\"limit\":4"));
  changed = options;
  changed.mode = Mode::kCot;
  CHECK_THAT(error(*identity, changed), Contains("mode"));
  std::filesystem::copy_file(options.data, dir / "data.jsonl");
  changed = options;
  changed.data = dir / "data.jsonl";
  CHECK(evaluate(model, *identity, changed, dir / "r.jsonl"));  // the same data by another name
  std::ofstream(dir / "data.jsonl", std::ios::app) << "\n";
  CHECK_THAT(error(*identity, changed), Contains("data"));
  std::ofstream(dir / "r.jsonl") << "{\"id\":1}\n";
  CHECK_THAT(error(*identity, options), Contains("no header of results"));
}

TEST_CASE("other ways to ask") {
  Transformer model = embedded_model();
  const auto identity = identify(model_file());
  const TempDir dir;
  EvaluationOptions options = options_for(Task::kMusr);
  options.mode = Mode::kLoglik;
  const auto likeliest = evaluate(model, *identity, options, dir / "loglik.jsonl");
  REQUIRE(likeliest);
  CHECK(likeliest->summary.guessed == 0);
  const auto again = score_results(dir / "loglik.jsonl", {}, {});
  REQUIRE(again);
  CHECK(again->summary.accuracy == likeliest->summary.accuracy);

  options = options_for(Task::kCruxevalO);
  options.limit = 5;
  options.samples = 4;
  CHECK_THAT(evaluate(model, *identity, options, dir / "s.jsonl").error().message,
             Contains("temperature"));
  options.sampler.temperature = 1;
  if (const auto sampled = evaluate(model, *identity, options, dir / "s.jsonl")) {
    CHECK(sampled->summary.outputs == 20);
    CHECK(sampled->summary.pass_1 > 0.5);
  } else {
    WARN("SKIPPED: " << sampled.error().message);
  }

  options = options_for(Task::kMusr);
  options.limit = 10;
  options.context = 110;  // some stories are longer
  const auto short_context = evaluate(model, *identity, options, dir / "short.jsonl");
  REQUIRE(short_context);
  CHECK(short_context->too_long > 0);
  CHECK(short_context->summary.items == 10);

  options.chat = true;
  const auto chat = evaluate(model, *identity, options, dir / "chat.jsonl");
  REQUIRE_FALSE(chat);
  CHECK_THAT(chat.error().message, Contains("plain prompt"));
  options.chat = false;
  options.mode = Mode::kDirect;
  options.task = Task::kMmluPro;
  CHECK_FALSE(evaluate(model, *identity, options, dir / "mode.jsonl"));
}
