#pragma once
// Rotary position embedding (arXiv:2104.09864): how fast each pair of dimensions turns, and the
// cosines and sines of a run of positions.

#include <cstddef>
#include <span>
#include <vector>

#include "kquant/model/config.hpp"

namespace kquant {

/// Angle of pair i at position p: p * frequencies[i]; cos and sin are multiplied by `magnitude`.
struct RopeFrequencies {
  std::vector<double> frequencies;
  double magnitude = 1.0;
};

/// Of layers that see all tokens. `factors`, if not empty, divide the frequencies one by one
/// (rope_freqs of Llama 3, rope_factors_long and _short of Phi 3).
RopeFrequencies global_frequencies(const Config& config, std::span<const float> factors);

/// Of sliding-window layers.
RopeFrequencies local_frequencies(const Config& config);

/// Cosines and sines of consecutive positions, one row of rope_dims / 2 each.
class RopeTable {
 public:
  void fill(const RopeFrequencies& rope, std::size_t first_position, std::size_t count);
  std::span<const float> cos(std::size_t i) const { return {cos_.data() + i * pairs_, pairs_}; }
  std::span<const float> sin(std::size_t i) const { return {sin_.data() + i * pairs_, pairs_}; }

 private:
  std::size_t pairs_ = 0;
  std::vector<float> cos_, sin_;
};

}  // namespace kquant
