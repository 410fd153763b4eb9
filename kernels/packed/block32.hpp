#pragma once
// Panels of blocks of 32, 16 rows of W each, times a tile of activations: 8 registers of codes,
// and for each row of X 8 products, which d and the scale of the activations make floats at once.
//
// Two panels at once where there are registers for it: 16 of codes, 4 of sums, 1 of activations,
// and d, but not mins.

#include "kernels/packed/activations.hpp"
#include "kernels/packed/layout.hpp"
#include "kernels/packed/prefetch.hpp"

namespace kquant::kernels {

template <class F, class Isa>
struct Block32Kernel {
  using Rows = typename Isa::Rows;
  using Word = typename Rows::Word;
  using Int = typename Rows::Int;
  using Float = typename Rows::Float;
  using Layout = PackedLayout<F>;
  static constexpr bool kStarts = Layout::kOffset != 0 && !(F::kSigned && Isa::kCentersBytes);
  static_assert(!(kStarts && F::kHasMin));
  static constexpr std::size_t kMostPanels = Isa::kSharesActivations && !F::kHasMin ? 2 : 1;

  KQ_INLINE static std::size_t panels_at_once(std::size_t w, std::size_t left) {
    return kMostPanels == 2 && w >= kTwoPanelsFrom<F> && left >= 2 ? 2 : 1;
  }

  /// What the offset of codes takes away, -kOffset * sum of the codes of activations, and their
  /// scale.
  struct StartAndScale {
    std::int32_t start;
    float scale;
  };

  KQ_INLINE static constexpr std::size_t scratch_bytes(std::size_t cols, std::size_t tile) {
    return cols / 32 * tile * (kStarts ? sizeof(StartAndScale) : F::kHasMin ? sizeof(float) : 0);
  }

  /// [K / 32][w], of a StartAndScale each; or, with mins, of scale * sum.
  KQ_INLINE static void prepare(const Tile& tile, std::size_t n_blocks, std::byte* scratch) {
    for (std::size_t i = 0; i < n_blocks * tile.width; ++i) {
      if constexpr (kStarts)
        reinterpret_cast<StartAndScale*>(scratch)[i] = {-Layout::kOffset * tile.sums[i],
                                                        tile.scales[i]};
      if constexpr (F::kHasMin)
        reinterpret_cast<float*>(scratch)[i] = tile.scales[i] * static_cast<float>(tile.sums[i]);
    }
  }

  /// acc[m][panel] += panel * row m of X, of n_panels = panels_at_once(…) panels.
  KQ_INLINE static void multiply(const std::uint8_t* panels, std::size_t panel_bytes,
                                 std::size_t n_panels, std::size_t n_blocks, const Tile& tile,
                                 const std::byte* scratch, float* acc) {
    const auto multiply_by = [&]<int kPanels>() __attribute__((always_inline)) {
      if (n_panels != kPanels) return;
      for (std::size_t b = 0; b < n_blocks; ++b)
        for (std::size_t slice = 0; slice < kPanelRows / Rows::kRows; ++slice)
          block<kPanels>(panels, panel_bytes, b, slice, tile, scratch, acc);
    };
    multiply_by.template operator()<1>();
    if constexpr (kMostPanels == 2) multiply_by.template operator()<2>();
  }

 private:
  template <int kPanels>
  KQ_INLINE static void block(const std::uint8_t* panels, std::size_t panel_bytes, std::size_t b,
                              std::size_t slice, const Tile& tile, const std::byte* scratch,
                              float* acc) {
    const std::size_t w = tile.width, rows_at = slice * Rows::kRows * sizeof(Half);
    Word codes[kPanels][kRunVectors];
    Float d[kPanels];
    [[maybe_unused]] Float min[kPanels];
    unrolled<kPanels>([&]<int i>() __attribute__((always_inline)) {
      const std::uint8_t* panel = panels + i * panel_bytes;
      const std::uint8_t* run_at = panel + Layout::codes_at(b) + slice * sizeof(Word);
      unpack_run<F, Isa>(run_at, codes[i]);
      if (slice == 0) {
        prefetch<Layout::kRunBytes, kPanels>(run_at);
        if (b % Layout::kBlocksAHead == 0) prefetch<kVectorBytes, kPanels>(run_at - kVectorBytes);
      }
      d[i] = Isa::row_halves(panel + Layout::d_at(b) + rows_at);
      if constexpr (F::kHasMin) min[i] = Isa::row_halves(panel + Layout::dmin_at(b) + rows_at);
    });
    const std::int8_t* a = tile.codes + b * w * 32;
    const auto* starts = reinterpret_cast<const StartAndScale*>(scratch) + b * w;
    const auto* scaled_sums = reinterpret_cast<const float*>(scratch) + b * w;
    for (std::size_t m = 0; m < w; ++m) {
      Int sums[kPanels]{};
      Float scale;
      if constexpr (kStarts) {
        const auto both = Rows::both(starts + m);
        for (Int& sum : sums) sum = both.first;
        scale = both.second;
      } else {
        scale = Rows::all(tile.scales[b * w + m]);
      }
      dot<Layout::kMaxCode, 0, kRunVectors, Isa>(sums, codes, a + 32 * m);
      unrolled<kPanels>([&]<int i>() __attribute__((always_inline)) {
        float* at = acc + (m * kPanels + i) * kPanelRows + slice * Rows::kRows;
        Float total = Isa::multiply_add(Rows::to_float(sums[i]) * d[i], scale,
                                        Rows::template load<Float>(at));
        // These mins are added (block32 formats have the min factor -1).
        if constexpr (F::kHasMin)
          total = Isa::multiply_add(min[i], Rows::all(scaled_sums[m]), total);
        Rows::store(at, total);
      });
    }
  }
};

}  // namespace kquant::kernels
