#pragma once
// Rotary position embedding (arXiv:2104.09864): how fast each pair of dimensions turns, and the
// cosines and sines of positions.

#include <cstddef>
#include <span>
#include <utility>
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

/// Cosines and sines of positions 0, 1, …, one row of rope_dims / 2 each: computed once for every
/// position that was ever reached.
class RopeTable {
 public:
  RopeTable() = default;
  explicit RopeTable(RopeFrequencies rope) : rope_(std::move(rope)) {}

  /// Has rows for positions up to `count`; memory, untouched at first, for up to `capacity`, so
  /// that a cache of that capacity needs no more from its second step on.
  void extend(std::size_t count, std::size_t capacity);
  std::span<const float> cos(std::size_t position) const { return row(cos_, position); }
  std::span<const float> sin(std::size_t position) const { return row(sin_, position); }

 private:
  std::span<const float> row(const std::vector<float>& rows, std::size_t position) const {
    return std::span(rows).subspan(position * pairs(), pairs());
  }
  std::size_t pairs() const { return rope_.frequencies.size(); }

  RopeFrequencies rope_;
  std::size_t count_ = 0;
  std::vector<float> cos_, sin_;
};

}  // namespace kquant
