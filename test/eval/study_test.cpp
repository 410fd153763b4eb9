#include "kquant/eval/study.hpp"

#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "eval/report_data.hpp"
#include "kquant/eval/report.hpp"
#include "shared_data.hpp"

using namespace kquant;
using namespace kquant::test;
using Catch::Contains;

namespace {

nlohmann::json small_study() {
  const auto folder = source_path("examples/embedded_model");
  const auto file = [&](const char* name) { return (folder / name).string(); };
  return {
      {"title", "A small <study>"},
      {"models", {{{"name", "tiny"}, {"path", file("embedded.gguf")}}}},
      {"levels", {"Q2_K", "Q4_K_M", "F16"}},
      {"reference", "F16"},
      {"tasks",
       {{{"task", "mmlu-pro"},
         {"data", file("eval/mmlu_pro.jsonl")},
         {"limit", 30},
         {"max_tokens", 40}},
        {{"task", "musr"}, {"data", file("eval/musr.jsonl")}, {"limit", 12}, {"max_tokens", 40}},
        {{"task", "divergence"}, {"data", file("text_test.txt")}, {"chunks", 2}}}}};
}

StudyConfig config_of(const nlohmann::json& json, const TempDir& dir) {
  std::ofstream(dir / "study.json") << json;
  auto config = read_study(dir / "study.json");
  if (!config) FAIL(config.error().message);
  return *config;
}

std::string config_error(const nlohmann::json& json) {
  const TempDir dir;
  std::ofstream(dir / "study.json") << json;
  const auto config = read_study(dir / "study.json");
  REQUIRE_FALSE(config);
  return config.error().message;
}

/// Samples without their timings.
std::vector<nlohmann::json> samples(const std::filesystem::path& path) {
  std::istringstream in(read_text(path));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(in, line);) {
    auto json = nlohmann::json::parse(line);
    json.erase("seconds");
    if (json.contains("id")) lines.push_back(std::move(json));
  }
  return lines;
}

}  // namespace

TEST_CASE("a study survives being stopped, and its report says what was found") {
  const TempDir dir;
  const StudyConfig config = config_of(small_study(), dir);
  int calls = 0;
  StudyOptions options;
  options.progress = [&](const StudyProgress& p) {
    CHECK(p.share >= 0);
    CHECK(p.share <= 1);
    return ++calls < 60;
  };
  const auto stopped = run_study(config, dir / "out", options);
  REQUIRE_FALSE(stopped);
  CHECK_THAT(stopped.error().message, Contains("interrupted"));
  REQUIRE(write_report(dir / "out"));
  CHECK_THAT(read_text(dir / "out" / "report.md"), Contains("Not measured yet"));

  options.progress = {};
  const auto done = run_study(config, dir / "out", options);
  if (!done) FAIL(done.error().message);
  const auto before = std::filesystem::last_write_time(dir / "out" / "models" / "tiny-Q2_K.gguf");
  REQUIRE(run_study(config, dir / "out", {}));
  CHECK(std::filesystem::last_write_time(dir / "out" / "models" / "tiny-Q2_K.gguf") == before);
  CHECK_FALSE(
      std::filesystem::exists(dir / "out" / "models" / "tiny-F16.gguf"));  // the model itself

  REQUIRE(write_report(dir / "out"));
  const std::string html = read_text(dir / "out" / "report.html");
  CHECK_THAT(html, Contains("A small &lt;study&gt;") && Contains("<polygon class=\"band\"") &&
                       Contains("McNemar") && Contains("prefers-color-scheme:dark") &&
                       Contains("mmlu-pro by category") && Contains("KL divergence"));
  CHECK_THAT(html, !Contains("<script") && !Contains("http-equiv") && !Contains("src="));
  const std::string markdown = read_text(dir / "out" / "report.md");
  CHECK_THAT(markdown,
             Contains("| Q2_K |") && Contains("within the noise") && !Contains("Not measured"));
  CHECK_THAT(read_text(dir / "out" / "report.csv"), Contains("tiny,Q4_K_M,musr,accuracy,"));
  CHECK_THAT(read_text(dir / "out" / "report-tiny.svg"), Contains("<svg"));
  const auto report = gather_report(dir / "out");
  REQUIRE(report);
  const ReportModel& model = report->models.at(0);
  REQUIRE(model.levels.size() == 3);
  CHECK(model.levels[0].cells.at("mmlu-pro").flips);
  CHECK(model.levels[2].cells.at("mmlu-pro").flips->p == 1);
  CHECK(model.levels[2].text->divergence->kl.mean == 0);
}

TEST_CASE("a study that is complete loads no model") {
  const TempDir dir;
  auto json = small_study();
  json["levels"] = {"Q2_K", "F16"};
  for (auto& task : json["tasks"]) task["limit"] = 2;
  json["tasks"][2].erase("limit");
  const StudyConfig config = config_of(json, dir);
  REQUIRE(run_study(config, dir / "out", {}));
  const auto path = dir / "out" / "models" / "tiny-Q2_K.gguf";
  std::string bytes = read_text(path);
  const std::size_t at = bytes.find("output_norm.weight");
  REQUIRE(at != bytes.npos);
  bytes[at] = 'x';  // a model no more
  std::ofstream(path, std::ios::binary) << bytes;
  REQUIRE_FALSE(Transformer::load(path));
  const auto again = run_study(config, dir / "out", {});
  if (!again) FAIL(again.error().message);
  std::filesystem::remove(dir / "out" / "results" / "tiny" / "Q2_K" / "musr.jsonl");
  CHECK_THAT(run_study(config, dir / "out", {}).error().message, Contains("output_norm"));
}

TEST_CASE("shards together are the whole study") {
  const TempDir dir;
  auto json = small_study();
  json["levels"] = {"Q2_K", "F16"};
  const StudyConfig config = config_of(json, dir);
  REQUIRE(run_study(config, dir / "whole", {}));
  REQUIRE(run_study(config, dir / "a", {.shard = {0, 3}}));
  const std::vector<std::filesystem::path> others = {dir / "b"};
  const auto early = merge_study(config, dir / "a", others);
  REQUIRE_FALSE(early);
  CHECK_THAT(early.error().message, Contains("tiny Q2_K mmlu-pro: found 1 of 3 shards"));
  REQUIRE(run_study(config, dir / "b", {.shard = {1, 3}}));
  REQUIRE(run_study(config, dir / "b", {.shard = {2, 3}}));
  const auto merged = merge_study(config, dir / "a", others);
  if (!merged) FAIL(merged.error().message);
  for (const char* const cell : {"tiny/Q2_K/mmlu-pro.jsonl", "tiny/F16/musr.jsonl"})
    CHECK(samples(dir / "a" / "results" / cell) == samples(dir / "whole" / "results" / cell));
  REQUIRE(write_report(dir / "a"));
  CHECK_THAT(read_text(dir / "a" / "report.md"), !Contains("Not measured"));
}

TEST_CASE("a study that cannot be meant is an error that names the field") {
  auto json = small_study();
  json["tasks"][0]["limt"] = 3;
  CHECK_THAT(config_error(json), Contains("study.json: task 1: unknown field 'limt'"));
  json = small_study();
  json["tasks"][1]["limit"] = "3";
  CHECK_THAT(config_error(json), Contains("task 2: field 'limit': \"3\" does not fit"));
  json = small_study();
  json["tasks"][1]["limit"] = -3;
  CHECK_THAT(config_error(json), Contains("field 'limit': -3"));
  json = small_study();
  json["levels"] = {"Q9"};
  CHECK_THAT(config_error(json), Contains("Q9"));
  json = small_study();
  json["reference"] = "Q8_0";
  CHECK_THAT(config_error(json), Contains("reference 'Q8_0' is none of the levels"));
  json = small_study();
  json["tasks"].push_back(json["tasks"][0]);
  CHECK_THAT(config_error(json), Contains("two tasks have the name 'mmlu-pro'"));
  json = small_study();
  json["models"][0]["name"] = "../x";
  CHECK_THAT(config_error(json), Contains("'../x'"));
  json = small_study();
  json.erase("models");
  CHECK_THAT(config_error(json), Contains("field 'models'"));
  json = small_study();
  json["tasks"][0]["task"] = "mmlu";
  CHECK_THAT(config_error(json), Contains("mmlu-pro, cruxeval-o"));
  CHECK_FALSE(read_study("no/such.json"));
  CHECK_FALSE(write_report(source_path("docs")));
}

TEST_CASE("returns diminish at the knee of the curve") {
  CHECK(knee({{2, 0.5}, {3, 0.8}, {4, 0.82}, {8, 0.83}, {16, 0.83}}) == 1u);
  CHECK(knee({{2, 0.5}, {3, 0.6}, {4, 0.8}, {8, 0.83}, {16, 0.84}}) == 2u);
  CHECK_FALSE(knee({{2, 0.5}, {4, 0.6}}));
  CHECK_FALSE(knee({{2, 0.5}, {3, 0.4}, {4, 0.9}}));  // no point above the line
}
