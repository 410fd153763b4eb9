// A real small model with weights in block formats: both layouts, and against the logits that its
// training framework computed.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "kquant/quantize_model.hpp"
#include "shared_data.hpp"
#include "test/model/fixture.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

std::filesystem::path embedded() {
  return source_path("examples/embedded_model/embedded.gguf");
}

Transformer load(const std::filesystem::path& path, Layout layout) {
  auto model = Transformer::load(path, {.weights = layout});
  if (!model) FAIL(model.error().message);
  return std::move(*model);
}

/// How far a is from b, in units of b's spread.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double error = 0, power = 0, mean = 0;
  for (const float v : b) mean += v / static_cast<double>(b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += std::pow(double{a[i]} - b[i], 2);
    power += std::pow(b[i] - mean, 2);
  }
  return std::sqrt(error / power);
}

}  // namespace

TEST_CASE("the embedded model's logits are those of the framework that trained it") {
  const auto expected =
      nlohmann::json::parse(read_text(source_path("examples/embedded_model/expected_logits.json")));
  Transformer model = load(embedded(), Layout::kPacked);
  const auto tokens = model.tokenizer().encode(expected["prompt"].get<std::string>());
  REQUIRE(tokens);
  CHECK(*tokens == expected["tokens"].get<std::vector<Token>>());
  KvCache cache(model.config(), 64, KvType::kF32);
  CHECK(distance(logits_of(model, *tokens, cache, 1),
                 expected["logits"].get<std::vector<float>>()) < 1e-5);
}

TEST_CASE("weights that are packed, and weights where they lie, give the same model") {
  const TempDir folder;
  const auto original = gguf::File::open(embedded());
  REQUIRE(original);
  Transformer reference = load(embedded(), Layout::kRows);
  const auto tokens = reference.tokenizer().encode(
      "Question:\nWhich of these is the home of Zalmo?\nOptions:\nA. island\nB. meadow\nAnswer:");
  REQUIRE(tokens);
  const std::size_t n = tokens->size();
  KvCache reference_cache(reference.config(), 128);
  const auto exact = logits_of(reference, *tokens, reference_cache, n);
  for (const std::string name : {"Q3_K_M", "Q4_K_M", "Q5_1", "Q8_0"}) {
    INFO(name);
    const auto path = folder / (name + ".gguf");
    const auto recipe = find_recipe(name);
    REQUIRE(recipe);
    REQUIRE(quantize_model(*original, path, *recipe, {}));
    std::vector<float> whole[2];
    for (const Layout layout : {Layout::kRows, Layout::kPacked}) {
      Transformer model = load(path, layout);
      KvCache cache(model.config(), 128), steps(model.config(), 128);
      auto& logits = whole[layout == Layout::kPacked];
      logits = logits_of(model, *tokens, cache, n);
      std::vector<float> pieces;
      for (std::size_t at = 0; at < n; at += 11) {  // also across the widths of tiles
        const std::size_t count = std::min<std::size_t>(at < 22 ? 1 : 11, n - at);
        for (std::size_t i = at; i < std::min(at + 11, n); i += count) {
          const auto part = logits_of(model, std::span(*tokens).subspan(i, std::min(count, n - i)),
                                      steps, std::min(count, n - i));
          pieces.insert(pieces.end(), part.begin(), part.end());
        }
      }
      // Of weights where they lie a few tokens and many are added up in different orders.
      if (layout == Layout::kPacked) CHECK(pieces == logits);
      CHECK(distance(pieces, logits) < 0.02);
      CHECK(distance(logits, exact) < 0.5);
    }
    // Many tokens have the sums of packed weights in either layout. In another order a sum may
    // round an activation the other way, to a neighbour 1/127 away.
    CHECK(whole[1] == whole[0]);
  }
}
