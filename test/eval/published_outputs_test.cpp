// The rules against published outputs of real models, and what the benchmarks' own code made of
// them.

#include <zlib.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "eval/json_lines.hpp"
#include "kquant/eval/score.hpp"
#include "shared_data.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

struct Comparison {
  std::size_t items = 0, different = 0, none = 0;
};

Comparison compare(const std::string& model, MmluProRules rules, const Benchmark& benchmark) {
  const auto path = shared_path("data/mmlu_pro/outputs_" + model + ".jsonl.gz");
  if (!path) return {};
  auto items = read_outputs(*path, benchmark);
  REQUIRE(items);
  REQUIRE(judge(*items, benchmark, {.rules = rules}));
  Comparison result;
  auto item = items->begin();
  const auto read = read_json_lines(*path, [&](const JsonRecord& record) -> Result<void> {
    const auto& published = record.object().at("pred");
    const auto& extracted = item->verdicts.at(0).extracted;
    result.different +=
        published.is_null() ? extracted.has_value() : extracted != published.get<std::string>();
    result.none += !extracted;
    ++result.items;
    ++item;
    return {};
  });
  REQUIRE(read);
  return result;
}

}  // namespace

TEST_CASE("answers extracted from published MMLU-Pro outputs are the published ones") {
  const auto data = shared_path("data/mmlu_pro/test.jsonl.gz");
  if (!data) return;
  const auto benchmark = Benchmark::load(Task::kMmluPro, *data);
  REQUIRE(benchmark);
  CHECK((*benchmark)->size() == 12032);
  const Comparison gemma = compare("gemma-7b", MmluProRules::k1, **benchmark);
  CHECK(gemma.items == 12032);
  CHECK(gemma.different == 0);
  const Comparison llama = compare("Meta-Llama-3_1-8B-Instruct", MmluProRules::k123, **benchmark);
  CHECK(llama.items == 12032);
  CHECK(llama.none == 694);
  CHECK(llama.different == 694);  // where nothing is found, a letter was drawn
}

TEST_CASE("verdicts on published CRUXEval generations are the published ones") {
  const auto data = shared_path("data/cruxeval/cruxeval.jsonl");
  const auto published = shared_path("data/cruxeval/scored_codellama-7b_temp0.2_output.json.gz");
  if (!data || !published) return;
  nlohmann::json scored;
  const auto read = read_json_lines(*published, [&](const JsonRecord& record) -> Result<void> {
    scored = record.object();
    return {};
  });
  REQUIRE(read);
  const TempDir dir;
  {
    std::ofstream out(dir / "outputs.jsonl");
    for (const auto& [id, generations] : scored["raw_generations"].items())
      out << nlohmann::json{{"id", id}, {"generations", generations}} << "\n";
  }
  const auto benchmark = Benchmark::load(Task::kCruxevalO, *data);
  REQUIRE(benchmark);
  auto items = read_outputs(dir / "outputs.jsonl", **benchmark);
  REQUIRE(items);
  if (const auto judged = judge(*items, **benchmark, {}); !judged) {
    WARN("SKIPPED: " << judged.error().message);
    return;
  }
  std::size_t verdicts = 0, different = 0;
  for (const ScoredItem& item : *items) {
    const auto& expected = scored["raw_scored_generations"][(*benchmark)->id(item.item)];
    REQUIRE(expected.size() == item.verdicts.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      ++verdicts;
      different += expected[i].get<bool>() != (item.verdicts[i].score == 1);
    }
  }
  CHECK(verdicts == 8000);
  CHECK(different == 0);
  const Summary summary = summarize(*items);
  CHECK(100 * summary.pass_1 == Approx(scored["pass_at_1"].get<double>()).epsilon(1e-12));
  CHECK(100 * summary.pass_5 == Approx(scored["pass_at_5"].get<double>()).epsilon(1e-12));
  CHECK(100 * summary.pass_1 == Approx(34.2125).margin(5e-5));
  CHECK(100 * summary.pass_5 == Approx(40.2867).margin(5e-5));
}
