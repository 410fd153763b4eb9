#pragma once
// Weights on their way to shared memory where a warp copies what it multiplies itself.

#include "cuda/layout.hpp"
#include "cuda/product.hpp"

namespace kquant::cuda {

/// The units of kTileRows x 16 rows of W, one after the other along K: a lane's own pointers, so
/// that a copy costs an instruction for each 512 bytes and little else.
template <class F, int kTileRows>
class UnitCopies {
 public:
  static constexpr int kUnit = DeviceLayout<F>::kUnitBytes;

  /// From `unit` on. A tile beyond the last row is a copy of the last one: its results are not
  /// written.
  KQ_DEVICE UnitCopies(const Product& p, int first_tile, int unit) {
    const int tiles = (p.rows + kUnitRows - 1) / kUnitRows;
#pragma unroll
    for (int i = 0; i < kTileRows; ++i) {
      const int tile = first_tile + i < tiles ? first_tile + i : tiles - 1;
      from_[i] = p.weights + lane() * 16 +
                 (static_cast<std::size_t>(tile) * static_cast<std::size_t>(p.units) +
                  static_cast<std::size_t>(unit)) *
                     kUnit;
    }
  }
  /// Begins to copy tile i's next unit to `to`; the one after it is `step` units further on.
  KQ_DEVICE void next(int i, std::byte* to, int step) {
#pragma unroll
    for (int at = 0; at < kUnit; at += kVector)
      if (at + kVector <= kUnit || lane() * 16 < kUnit - at)
        copy_async(to + lane() * 16 + at, from_[i] + at);
    from_[i] += step * kUnit;
  }

 private:
  const std::byte* from_[kTileRows];
};

}  // namespace kquant::cuda
