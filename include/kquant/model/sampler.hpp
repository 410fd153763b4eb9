#pragma once
// Picks the next token from logits.

#include <cstdint>
#include <random>
#include <span>

#include "kquant/model/tokenizer.hpp"

namespace kquant {

struct SamplerOptions {
  float temperature = 0.8f;  ///< 0: greedy
  int top_k = 40;            ///< 0: all
  float top_p = 0.95f;       ///< 1: all
  std::uint64_t seed = 0;
};

/// Deterministic for a seed, on every platform.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {}
  Token sample(std::span<const float> logits);

 private:
  SamplerOptions options_;
  std::mt19937_64 random_;
};

}  // namespace kquant
