#pragma once
// Activations for packed weights: int8 as in kernels/activations.hpp, in the order in which the
// product reads them. `tile` rows of X at a time meet a panel; within a tile of w rows
//
//     codes     [K / 32][w][32]                 scales    [K / group][w]
//     sums      groups of 256: [K / 256][w][16 + 8]: sums of 16 and of 32 codes
//               groups of 32:  [K / 32][w]
//
// The sums of 16 and 32 go in pairs into dot_pairs, whose other factors are bytes 0 and 2 or 1 and
// 3 of a word of mins: within every four they are stored in the order 0 2 1 3.

#include "kernels/activations.hpp"
#include "kernels/packed/layout.hpp"

namespace kquant::kernels {

/// One tile of TiledActivations.
struct Tile {
  std::size_t first, width;  ///< rows of X
  const std::int8_t* codes;
  const float* scales;
  const std::int16_t* sums;

  template <int kGroup>
  KQ_INLINE static Tile of(const TiledActivations& a, std::size_t first) {
    constexpr std::size_t kSums = kGroup == 256 ? kSumsPerSuper : 1;
    const std::size_t left = a.rows - first, groups = a.cols / kGroup;
    return {first, left < a.tile ? left : a.tile, a.codes + first * a.cols,
            a.scales + first * groups, a.sums + first * groups * kSums};
  }
};

/// Place of sum j in an array of pairs, and also which sum is at place j.
KQ_INLINE constexpr int pair_place(int j) {
  return (j & ~3) | ((j & 1) << 1) | ((j >> 1) & 1);
}

/// Sums of 16 codes, as pairs; and then of 32.
template <int... kAt16, int... kAt32>
KQ_INLINE void store_sums(const std::int16_t (&sums16)[16], std::int16_t* to,
                          std::integer_sequence<int, kAt16...>,
                          std::integer_sequence<int, kAt32...>) {
  using Sums = typename VectorOf<std::int16_t, 16>::Type;
  Sums sums;
  __builtin_memcpy(&sums, sums16, sizeof sums);
  const Sums pairs = __builtin_shufflevector(sums, sums, pair_place(kAt16)...);
  const auto sums32 = __builtin_shufflevector(sums, sums, 2 * pair_place(kAt32)...) +
                      __builtin_shufflevector(sums, sums, 2 * pair_place(kAt32) + 1 ...);
  __builtin_memcpy(to, &pairs, sizeof pairs);
  __builtin_memcpy(to + 16, &sums32, sizeof sums32);
}

/// Rows [first, first + count) of X, which are of one tile, to their places in it. Runs of a row
/// lie far apart, and those of neighbouring rows side by side: so the row is the inner loop.
template <class Isa, int kGroup>
KQ_INLINE void fill_tile(const float* x, std::size_t x_stride, std::size_t first, std::size_t count,
                         std::size_t cols, const Tile& tile) {
  auto* codes = reinterpret_cast<std::uint8_t*>(const_cast<std::int8_t*>(tile.codes));
  auto* scales = const_cast<float*>(tile.scales);
  auto* sums = const_cast<std::int16_t*>(tile.sums);
  const std::size_t w = tile.width;
  for (std::size_t at = 0; at < cols; at += kSuper) {
    const std::size_t first_run = at / 32, n_runs = (cols - at) / 32;
    for (std::size_t m = first; m < first + count; ++m) {
      const std::size_t row = m - tile.first;
      std::uint8_t of_padding[32];
      const QuantizedColumns q = quantize_columns<Isa, kGroup, 0>(
          x + m * x_stride, at, cols, [&](int run) __attribute__((always_inline)) {
            const auto i = static_cast<std::size_t>(run);
            return i < n_runs ? codes + ((first_run + i) * w + row) * 32 : of_padding;
          });
      if constexpr (kGroup == 256) {
        const std::size_t i = at / kSuper * w + row;
        scales[i] = q.scales[0];
        store_sums(q.sums, sums + i * kSumsPerSuper, std::make_integer_sequence<int, 16>{},
                   std::make_integer_sequence<int, 8>{});
      } else {
        for (std::size_t g = 0; g < 8 && g < n_runs; ++g) {
          const std::size_t i = (first_run + g) * w + row;
          scales[i] = q.scales[g];
          sums[i] = static_cast<std::int16_t>(q.sums[2 * g] + q.sums[2 * g + 1]);
        }
      }
    }
  }
}

template <class Isa, int kGroup>
void tile_activations(const float* x, std::size_t x_stride, std::size_t first, std::size_t count,
                      const TiledActivations& out) noexcept {
  for (const std::size_t end = first + count; first < end;) {
    const Tile tile = Tile::of<kGroup>(out, first - first % out.tile);
    const std::size_t tile_end = tile.first + tile.width;
    const std::size_t n = (end < tile_end ? end : tile_end) - first;
    fill_tile<Isa, kGroup>(x, x_stride, first, n, out.cols, tile);
    first += n;
  }
}

}  // namespace kquant::kernels
