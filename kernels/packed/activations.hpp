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

/// Place of sum j in an array of pairs.
KQ_INLINE constexpr int pair_place(int j) {
  return (j & ~3) | ((j & 1) << 1) | ((j >> 1) & 1);
}

template <class Isa, int kGroup>
void tile_activations(const float* x, std::size_t x_stride, std::size_t first, std::size_t count,
                      const TiledActivations& out) noexcept {
  for (std::size_t m = first; m < first + count; ++m) {
    const Tile tile = Tile::of<kGroup>(out, m - m % out.tile);
    const std::size_t at = m - tile.first, w = tile.width;
    auto* codes = const_cast<std::int8_t*>(tile.codes);
    auto* scales = const_cast<float*>(tile.scales);
    auto* sums = const_cast<std::int16_t*>(tile.sums);
    for (std::size_t g = 0; g < out.cols / kGroup; ++g) {
      alignas(64) std::uint8_t group[kGroup];
      std::int16_t sums16[kGroup / 16];
      scales[g * w + at] =
          quantize_group<Isa, kGroup, 0>(x + m * x_stride + g * kGroup, group, sums16);
      constexpr std::size_t kRunsInGroup = kGroup / 32;
      for (std::size_t run = 0; run < kRunsInGroup; ++run)
        __builtin_memcpy(codes + ((g * kRunsInGroup + run) * w + at) * 32, group + 32 * run, 32);
      if constexpr (kGroup == 256) {
        std::int16_t* to = sums + (g * w + at) * kSumsPerSuper;
        for (int j = 0; j < 16; ++j) to[pair_place(j)] = sums16[j];
        for (int j = 0; j < 8; ++j)
          to[16 + pair_place(j)] = static_cast<std::int16_t>(sums16[2 * j] + sums16[2 * j + 1]);
      } else {
        sums[g * w + at] = static_cast<std::int16_t>(sums16[0] + sums16[1]);
      }
    }
  }
}

}  // namespace kquant::kernels
