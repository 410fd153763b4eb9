#pragma once
// Picks the next token from logits.

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "kquant/model/tokenizer.hpp"

namespace kquant {

/// Applied in this order: the top_k most likely tokens; of those the fewest that together have a
/// probability of top_p; their probabilities sharpened or flattened by the temperature.
struct SamplerOptions {
  float temperature = 0.8f;  ///< 0: greedy
  int top_k = 40;            ///< 0: all
  float top_p = 0.95f;       ///< 1: all
  std::uint64_t seed = 0;
};

/// The same logits and seed give the same tokens on every platform: the generator is fixed by the
/// C++ standard, ties go to the lower token id, and exp() is our own.
class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {}

  /// NaN counts as -inf. Precondition: at least one logit.
  Token sample(std::span<const float> logits);

 private:
  struct Candidate {
    Token token;
    float logit;
    double weight;  ///< exp of the logit's distance from the largest, not normalised
  };
  void keep_top_k(std::span<const float> logits);
  void keep_top_p();

  SamplerOptions options_;
  std::mt19937_64 random_;
  std::vector<Candidate> candidates_;  // most likely first
};

}  // namespace kquant
