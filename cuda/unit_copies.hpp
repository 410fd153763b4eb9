#pragma once
// Weights on their way to shared memory where a warp copies what it multiplies itself.

#include "cuda/layout.hpp"
#include "cuda/product.hpp"

namespace kquant::cuda {

/// Stages in shared memory that go round, as bytes of the ring.
template <int kStages, int kBytes>
struct Ring {
  int now = 0;
  /// The stage that was left last, and is filled next.
  KQ_DEVICE int before() const { return now > 0 ? now - kBytes : (kStages - 1) * kBytes; }
  KQ_DEVICE void advance() { now = now + kBytes < kStages * kBytes ? now + kBytes : 0; }
};

/// The units of kTileRows x 16 rows of W, one after the other along K: a lane's own pointer, so
/// that a copy costs an instruction for each 512 bytes and little else.
template <class F, int kTileRows>
class UnitCopies {
 public:
  static constexpr int kUnit = DeviceLayout<F>::kUnitBytes;

  /// From `unit` on. A tile beyond the last row is a copy of one before: its results are not
  /// written.
  KQ_DEVICE UnitCopies(const Product& p, int first_tile, int unit) {
    const int tiles = (p.rows + kUnitRows - 1) / kUnitRows;
    const auto row_of_units = static_cast<std::size_t>(p.units) * kUnit;
    const int first = first_tile < tiles ? first_tile : tiles - 1;
    from_ = p.weights + static_cast<std::size_t>(first) * row_of_units +
            static_cast<std::size_t>(unit) * kUnit + lane() * 16;
    to_next_tile_ = first + kTileRows <= tiles ? row_of_units : 0;
  }
  /// Begins to copy tile i's unit to `to`.
  KQ_DEVICE void copy(int i, std::byte* to) const {
    const std::byte* from = from_ + static_cast<std::size_t>(i) * to_next_tile_;
#pragma unroll
    for (int at = 0; at < kUnit; at += kVector)
      if (at + kVector <= kUnit || lane() * 16 < kUnit - at)
        copy_async(to + lane() * 16 + at, from + at);
  }
  /// So many units further on.
  KQ_DEVICE void advance(int units) {
    from_ += units * kUnit;
  }

 private:
  const std::byte* from_;
  std::size_t to_next_tile_;
};

}  // namespace kquant::cuda
