#pragma once
// A panel of k-quant super-blocks, 16 rows of W, times a tile of activations.
//
// For each run of 32 columns: 8 registers of codes, 1 or 2 scales; for each row of X 8 products and
// the scaled sum, added to the row's int32 total in L1. Floats come in once a block, in the loop of
// its last run: (total * d - mins * dmin) * scale of the activations.
//
// Two and three bits (Q2_K, Q3_K) have a scale for 16 columns. Theirs come in by one of three ways
// (Way), which give the same integers: with many rows of X codes are multiplied by their scales
// while they are unpacked, since the products fit a byte; with few, two sums of 16 columns fit a
// lane as int16, and one vpdpwssd multiplies and adds them; with one row unpacking is most of the
// work, and half of the codes are not shifted down, but their sums are. AVX2 has its scales in
// vpmaddwd, which adds pairs anyway.

#include "kernels/packed/activations.hpp"
#include "kernels/packed/layout.hpp"
#include "kernels/packed/prefetch.hpp"
#include "kernels/packed/scales.hpp"

namespace kquant::kernels {

template <class F, class Isa>
struct SuperBlockKernel {
  using Rows = typename Isa::Rows;
  using Word = typename Rows::Word;
  using Int = typename Rows::Int;
  using Float = typename Rows::Float;
  using Layout = PackedLayout<F>;
  static constexpr int kMaxCode = Layout::kMaxCode, kOffset = Layout::kOffset;
  /// What the offset of codes takes away: a start for each sum, or for all sums of a block at once.
  static constexpr bool kOffsetsAtEnd = kOffset != 0 && Isa::kScalesInDot,
                        kStarts = kOffset != 0 && !kOffsetsAtEnd;
  static_assert(!F::kSigned && (kOffset == 0 || F::kSub == 16));
  static constexpr bool kScalesCodes = Isa::kPremultiplies && kBytesAfterScale<F>,
                        kPairsSums = Isa::kPairsSums && kBytesAfterScale<F>;
  static constexpr std::size_t kMostPanels = Isa::kSharesActivations ? 2 : 1;

  KQ_INLINE static std::size_t panels_at_once(std::size_t w, std::size_t left) {
    const bool runs = !kScalesCodes || way_of(w) == Way::kScaledCodes;
    return kMostPanels == 2 && w >= kTwoPanelsFrom<F> && left >= 2 && runs ? 2 : 1;
  }

  KQ_INLINE static Way way_of(std::size_t w) {
    if (kScalesCodes && w >= kScaledCodesFrom<F>) return Way::kScaledCodes;
    if (!kPairsSums) return Way::kScaledSums;
    return w > 1 ? Way::kPairedSums : Way::kOneRow;
  }

  KQ_INLINE static constexpr std::size_t scratch_bytes(std::size_t cols, std::size_t tile) {
    return kStarts ? cols / 16 * tile * sizeof(std::int32_t) : 0;
  }

  /// What the offset of codes takes away, for every sum of products: -kOffset * sum of activations.
  /// [K / 32][w][2], or one a super-block where codes are premultiplied.
  KQ_INLINE static void prepare(const Tile& tile, std::size_t n_blocks, std::byte* scratch) {
    if constexpr (!kStarts) return;
    auto* starts = reinterpret_cast<std::int32_t*>(scratch);
    const std::size_t w = tile.width;
    const Way way = way_of(w);
    const int factor = way == Way::kOneRow ? -4 * kOffset : -kOffset;
    for (std::size_t b = 0; b < n_blocks; ++b)
      for (std::size_t m = 0; m < w; ++m) {
        const std::int16_t* sums = tile.sums + (b * w + m) * kSumsPerSuper;
        if (way == Way::kScaledCodes) {
          int sum = 0;
          for (int j = 0; j < 16; ++j) sum += sums[j];
          starts[b * w + m] = -128 * sum;
        } else {
          for (std::size_t j = 0; j < 16; ++j)
            starts[((b * 8 + j / 2) * w + m) * 2 + j % 2] =
                factor * sums[pair_place(static_cast<int>(j))];
        }
      }
  }

  /// acc of row m of X += panel * that row.
  KQ_INLINE static void multiply(const std::uint8_t* panels, std::size_t panel_bytes,
                                 std::size_t n_panels, std::size_t n_blocks, const Tile& tile,
                                 const std::byte* scratch, float* acc) {
    const auto* starts = reinterpret_cast<const std::int32_t*>(scratch);
    const Way way = way_of(tile.width);
    const auto multiply_by = [&]<Way kWay, int kPanels>() __attribute__((always_inline)) {
      if (way != kWay || n_panels != kPanels) return;
      for (std::size_t b = 0; b < n_blocks; ++b)
        for (std::size_t slice = 0; slice < kPanelRows / Rows::kRows; ++slice)
          block<kWay, kPanels>(panels, panel_bytes, b, slice, tile, starts, acc);
    };
    if constexpr (kScalesCodes) multiply_by.template operator()<Way::kScaledCodes, 1>();
    if constexpr (kScalesCodes && kMostPanels == 2)
      multiply_by.template operator()<Way::kScaledCodes, 2>();
    if constexpr (kPairsSums) {
      multiply_by.template operator()<Way::kPairedSums, 1>();
      multiply_by.template operator()<Way::kOneRow, 1>();
    } else {
      multiply_by.template operator()<Way::kScaledSums, 1>();
      if constexpr (kMostPanels == 2) multiply_by.template operator()<Way::kScaledSums, 2>();
    }
  }

 private:
  /// Scales and factors of a k-quant block, of some rows.
  struct Head {
    using Scales = decltype(F::unpack_scale_words(std::declval<Word (&)[Layout::kScaleWords]>()));
    Scales scales;
    Float d;
    [[maybe_unused]] Float minus_dmin;

    template <Way kWay>
    KQ_INLINE static Head of(const std::uint8_t* panel, std::size_t b, std::size_t slice) {
      Word words[Layout::kScaleWords];
      unrolled<static_cast<int>(Layout::kScaleWords)>([&]<int i>() __attribute__((always_inline)) {
        words[i] = Rows::template load<Word>(panel + Layout::scales_at(b) + i * kVectorBytes +
                                             slice * sizeof(Word));
      });
      const std::size_t rows_at = slice * Rows::kRows * sizeof(Half);
      Head head{F::unpack_scale_words(words), Isa::row_halves(panel + Layout::d_at(b) + rows_at),
                Float{}};
      if constexpr (kWay == Way::kScaledCodes && !F::kHasMin)
        head.d = -head.d;  // 128 - (q - zero) * s
      if constexpr (F::kHasMin)
        head.minus_dmin = -Isa::row_halves(panel + Layout::dmin_at(b) + rows_at);
      return head;
    }
  };

  /// One k-quant block, rows `slice` on of each panel, against all rows of X; acc[m][panel] is
  /// theirs.
  template <Way kWay, int kPanels>
  KQ_INLINE static void block(const std::uint8_t* panels, std::size_t panel_bytes, std::size_t b,
                              std::size_t slice, const Tile& tile, const std::int32_t* starts,
                              float* acc) {
    const std::size_t w = kWay == Way::kOneRow ? 1 : tile.width;
    const std::uint8_t* codes_at = panels + Layout::codes_at(b) + slice * sizeof(Word);
    constexpr std::size_t kHead = (Layout::kScaleWords + 1) * kVectorBytes;
    const bool fetch = slice == 0;
    Head heads[kPanels];
    constexpr int kMinPairs = F::kHasMin ? kSubs<F> / 2 : 0;
    [[maybe_unused]] Word min_pairs[kPanels][F::kHasMin ? kMinPairs : 1], scale_pairs[8];
    unrolled<kPanels>([&]<int p>() __attribute__((always_inline)) {
      if (fetch) prefetch<kHead, kPanels>(codes_at + p * panel_bytes - kHead);
      heads[p] = Head::template of<kWay>(panels + p * panel_bytes, b, slice);
      if constexpr (F::kHasMin)
        unrolled<kMinPairs>([&]<int i>() __attribute__((always_inline)) {
          min_pairs[p][i] = (heads[p].scales.min[i / 2] >> (8 * (i % 2))) & 0x00ff00ffu;
        });
    });
    if constexpr (kOffsetsAtEnd)
      unrolled<8>([&]<int i>() __attribute__((always_inline)) {
        scale_pairs[i] = scale_pair_of<Isa>(heads[0].scales.scale, i);
      });
    const auto finish = [&](std::size_t m, auto& totals) __attribute__((always_inline)) {
      const std::int16_t* sums = tile.sums + (b * w + m) * kSumsPerSuper;
      if constexpr (kOffsetsAtEnd) {
        Int sum{};
        unrolled<8>([&]<int i>() __attribute__((always_inline)) {
          sum = Isa::dot_pairs(sum, scale_pairs[i], sums + 2 * i);
        });
        totals[0] -= sum * Layout::kOffset;
      }
      [[maybe_unused]] Int mins[kPanels]{};
      if constexpr (F::kHasMin)
        unrolled<kMinPairs>([&]<int i>() __attribute__((always_inline)) {
          unrolled<kPanels>([&]<int p>() __attribute__((always_inline)) {
            mins[p] =
                Isa::dot_pairs(mins[p], min_pairs[p][i], sums + (F::kSub == 32 ? 16 : 0) + 2 * i);
          });
        });
      unrolled<kPanels>([&]<int p>() __attribute__((always_inline)) {
        Float value = Rows::to_float(totals[p]) * heads[p].d;
        if constexpr (F::kHasMin)
          value = Isa::multiply_add(Rows::to_float(mins[p]), heads[p].minus_dmin, value);
        float* at = acc + (m * kPanels + p) * kPanelRows + slice * Rows::kRows;
        Rows::store(at, Isa::multiply_add(value, Rows::all(tile.scales[b * w + m]),
                                          Rows::template load<Float>(at)));
      });
    };

    if constexpr (kWay == Way::kPairedSums || kWay == Way::kOneRow)
      pairs_of_runs<kWay>(codes_at, fetch, heads[0].scales.scale, b, w, tile, starts, finish);
    else
      runs<kWay, kPanels>(codes_at, panel_bytes, fetch, heads, b, w, tile, starts, finish);
  }

  /// The runs of a k-quant block, one after the other.
  template <Way kWay, int kPanels>
  KQ_INLINE static void runs(const std::uint8_t* codes_at, std::size_t panel_bytes, bool fetch,
                             const Head (&heads)[kPanels], std::size_t b, std::size_t w,
                             const Tile& tile, const std::int32_t* starts, const auto& finish) {
    constexpr int kScales = kSubs<F> / 8, kVectors = kRunVectors / kScales;  // of a run; of a scale
    // Beside the codes of two panels there are no registers for their mins.
    constexpr bool kFinishesApart = kPanels > 1 && F::kHasMin;
    Int totals[kTileRows][kPanels];
    unrolled<8>([&]<int g>() __attribute__((always_inline)) {
      Word codes[kPanels][kRunVectors];
      [[maybe_unused]] Int scale[kPanels][kScales];
      [[maybe_unused]] Word scale16[kScales];
      unrolled<kPanels>([&]<int p>() __attribute__((always_inline)) {
        const std::uint8_t* run_at = codes_at + p * panel_bytes + g * Layout::kRunBytes;
        unpack_run<F, Isa>(run_at, codes[p]);
        if (fetch) prefetch<Layout::kRunBytes, kPanels>(run_at);
        const auto& scales = heads[p].scales.scale;
        unrolled<kScales>([&]<int i>() __attribute__((always_inline)) {
          constexpr int j = g * kScales + i;
          if constexpr (kWay == Way::kScaledCodes)
            premultiply<F>(codes[p] + kVectors * i, repeated_scale<Isa, j>(scales));
          else if constexpr (Isa::kScalesInDot)
            scale16[i] = as_int16(repeated_scale<Isa, j>(scales));
          else
            scale[p][i] = scale_of<Isa>(scales, j);
        });
      });
      const std::int8_t* a = tile.codes + (b * 8 + g) * w * 32;
      for (std::size_t m = 0; m < w; ++m, a += 32) {
        Int total[kPanels]{};
        if constexpr (g > 0)
          for (int p = 0; p < kPanels; ++p) total[p] = totals[m][p];
        if constexpr (kWay == Way::kScaledCodes) {
          if constexpr (g == 0 && kStarts)
            for (auto& t : total) t = Rows::all(starts[b * w + m]);
          dot<255, 0, kRunVectors, Isa>(total, codes, a);
        } else {
          unrolled<kScales>([&]<int i>() __attribute__((always_inline)) {
            if constexpr (Isa::kScalesInDot) {
              total[0] = Isa::template dot_scaled<kMaxCode, kVectors>(
                  total[0], codes[0] + kVectors * i, a + 4 * kVectors * i, scale16[i]);
            } else {
              Int sums[kPanels]{};
              if constexpr (kStarts)
                for (auto& sum : sums) sum = Rows::all(starts[((b * 8 + g) * w + m) * kScales + i]);
              dot<kMaxCode, kVectors * i, kVectors, Isa>(sums, codes, a);
              unrolled<kPanels>([&]<int p>() __attribute__((always_inline)) {
                total[p] += sums[p] * scale[p][i];
              });
            }
          });
        }
        if constexpr (g < 7 || kFinishesApart)
          for (int p = 0; p < kPanels; ++p) totals[m][p] = total[p];
        else
          finish(m, total);
      }
    });
    if constexpr (kFinishesApart)
      for (std::size_t m = 0; m < w; ++m) finish(m, totals[m]);
  }

  /// Two runs at a time: sums of 16 columns of the one and of the other in a lane meet two scales.
  template <Way kWay>
  KQ_INLINE static void pairs_of_runs(const std::uint8_t* codes_at, bool fetch, const auto& scales,
                                      std::size_t b, std::size_t w, const Tile& tile,
                                      const std::int32_t* starts, const auto& finish) {
    Int totals[kTileRows][1];
    unrolled<4>([&]<int k>() __attribute__((always_inline)) {
      Word codes[2][kRunVectors], pair_scales[2];
      unrolled<2>([&]<int i>() __attribute__((always_inline)) {
        const std::uint8_t* run_at = codes_at + (2 * k + i) * Layout::kRunBytes;
        if constexpr (kWay == Way::kOneRow)
          unpack_in_place<F, Isa>(run_at, codes[i]);
        else
          unpack_run<F, Isa>(run_at, codes[i]);
        if (fetch) prefetch<Layout::kRunBytes>(run_at);
        pair_scales[i] = scale_pair_of<Isa>(scales, 2 * k + i);
      });
      for (std::size_t m = 0; m < w; ++m) {
        Int of_one[1]{}, sums[2][2];
        Int& total = of_one[0];
        if constexpr (k > 0) total = totals[m][0];
        unrolled<4>([&]<int i>() __attribute__((always_inline)) {
          const std::size_t at = ((b * 8 + 2 * k + i / 2) * w + m) * 2 + i % 2;
          sums[i / 2][i % 2] = sum_of_16<kWay>(codes[i / 2] + i % 2 * 4, tile.codes + at * 16,
                                               kStarts ? Rows::all(starts[at]) : Int{});
        });
        unrolled<2>([&]<int i>() __attribute__((always_inline)) {
          total = Isa::add_pairs(total, Isa::pair(sums[0][i], sums[1][i]), pair_scales[i]);
        });
        if constexpr (k < 3)
          totals[m][0] = total;
        else
          finish(m, of_one);
      }
    });
  }

  /// The start and 16 columns against one row of X.
  template <Way kWay>
  KQ_INLINE static Int sum_of_16(const Word* codes, const std::int8_t* a, Int start) {
    if constexpr (kWay != Way::kOneRow) return Isa::template dot<kMaxCode, 4>(start, codes, a);
    // Of two codes that share a byte the upper one was not moved down: its sum is.
    const Int sum = Isa::template dot<4 * kMaxCode, 2>(start, codes + 2, a + 8) >> 2;
    return Isa::template dot<kMaxCode, 2>(sum, codes, a);
  }
};

}  // namespace kquant::kernels
