#pragma once
// Models for tests of the forward pass on devices.

#include <cmath>
#include <filesystem>
#include <memory>

#include "device.hpp"
#include "shared_data.hpp"
#include "test/model/fixture.hpp"

namespace kquant::test {

/// `accelerator`: null: the CPU, with float activations unless asked for others: those of int8
/// would be most of the difference.
inline Transformer load(const std::filesystem::path& path, std::shared_ptr<Accelerator> accelerator,
                        ActivationPrecision activations = ActivationPrecision::kFloat) {
  auto model =
      Transformer::load(path, {.accelerator = std::move(accelerator), .activations = activations});
  if (!model) FAIL(model.error().message);
  return std::move(*model);
}

/// How far a is from b, by the size of b.
inline double distance(std::span<const float> a, std::span<const float> b) {
  REQUIRE(a.size() == b.size());
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    error += difference * difference;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(error / norm);
}

/// The first twelve tokens' logits on the accelerator are those of the reference.
inline void require_reference(const Expectation& expected,
                              std::shared_ptr<Accelerator> accelerator) {
  Transformer model = load(fixture_path(expected.gguf), std::move(accelerator));
  KvCache cache(model.config(), expected.n_ctx);
  const std::size_t n = std::min<std::size_t>(expected.tokens.size(), 12);
  const auto found = logits_of(model, std::span(expected.tokens).first(n), cache, n);
  std::vector<float> all;
  for (std::size_t i = 0; i < n; ++i)
    all.insert(all.end(), expected.logits[i].begin(), expected.logits[i].end());
  REQUIRE(distance(found, all) < 1e-2);
}

inline std::vector<Token> some_tokens(const Transformer& model, std::size_t n) {
  std::vector<Token> tokens;
  for (std::size_t i = 0; i < n; ++i)
    tokens.push_back(
        static_cast<Token>((i * 37 + 5) % static_cast<std::size_t>(model.config().vocab_size)));
  return tokens;
}

inline std::filesystem::path embedded() {
  return source_path("examples/embedded_model/embedded.gguf");
}

}  // namespace kquant::test
