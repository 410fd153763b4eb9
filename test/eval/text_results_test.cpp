#include "kquant/eval/text_results.hpp"

#include <catch2/catch.hpp>
#include <fstream>

#include "shared_data.hpp"
#include "test/model/fixture.hpp"

using namespace kquant;
using namespace kquant::test;
using Catch::Contains;

namespace {

/// A model, another as its reference, and a text of eight windows.
struct Measured {
  Transformer model = load_fixture("llama2.gguf"), reference = load_fixture("llama3.gguf");
  ModelIdentity identity{"llama2.gguf", "1"};
  TextEvaluationOptions options;

  explicit Measured(const TempDir& dir) {
    std::ofstream text(dir / "text.txt");
    for (int i = 0; i < 60; ++i) text << "the ring of " << i * i << " bears was on a mat;\n";
    options.text = dir / "text.txt";
    options.context = 40;
    options.chunks = 8;
    options.reference = ModelIdentity{"llama3.gguf", "2"};
  }
  Result<PerplexityResult> run(const std::filesystem::path& results) {
    return evaluate_text(model, identity, &reference, options, results);
  }
};

/// Everything but how long it took.
std::string figures(PerplexityResult result) {
  result.seconds = result.tokens_per_second = 0;
  return json_of(result);
}

}  // namespace

TEST_CASE("a text goes on with the window at which it was stopped") {
  const TempDir dir;
  Measured m(dir);
  const auto whole = m.run(dir / "whole.jsonl");
  REQUIRE(whole);
  CHECK(whole->chunks == 8);
  for (const bool with_reference : {true, false}) {
    if (!with_reference) m.options.reference.reset();
    const auto path = dir / (with_reference ? "divergence.jsonl" : "perplexity.jsonl");
    m.options.progress = [](int done, int, double) { return done < 3; };
    const auto stopped = m.run(path);
    REQUIRE_FALSE(stopped);
    CHECK_THAT(stopped.error().message, Contains("interrupted"));
    CHECK_FALSE(*is_evaluated(m.identity, m.options, path));
    std::ofstream(path, std::ios::app) << "{\"window\":3,\"nl";  // killed while writing
    int first = 0;
    m.options.progress = [&](int done, int, double) {
      if (first == 0) first = done;
      return true;
    };
    const auto resumed = m.run(path);
    if (!resumed) FAIL(resumed.error().message);
    CHECK(first == 4);
    CHECK(*is_evaluated(m.identity, m.options, path));
    if (with_reference)
      CHECK(figures(*resumed) == figures(*whole));
    else
      CHECK(resumed->perplexity == whole->perplexity);
    first = 0;
    const auto again = m.run(path);
    REQUIRE(again);
    CHECK(first == 0);  // nothing was measured
    CHECK(json_of(*again) == json_of(*resumed));
  }
}

TEST_CASE("windows that are no windows are errors that name the line") {
  const TempDir dir;
  Measured m(dir);
  const auto path = dir / "r.jsonl";
  m.options.progress = [](int done, int, double) { return done < 2; };
  REQUIRE_FALSE(m.run(path));
  const std::string good = read_text(path);
  for (const char* const bad : {R"({"window":7,"nll":[]})", R"({"nll":[1]})", R"({"window":2})"}) {
    INFO(bad);
    std::ofstream(path) << good << bad << "\n";
    const auto result = m.run(path);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == ErrorCode::kBadFile);
    CHECK_THAT(result.error().message,
               Contains("r.jsonl: line 4: expected the scores of window 2"));
  }
  std::ofstream(path) << good;
  m.options.reference->hash = "3";
  CHECK_THAT(m.run(path).error().message, Contains("holds other results"));
  CHECK_THAT(is_evaluated(m.identity, m.options, path).error().message,
             Contains("holds other results"));
}
