#pragma once
// Panels of packed weights times a tile of activations.
//
// Register plan (AVX-512), for each run of 32 columns of W:
//
//     8 zmm   codes of 16 rows, unpacked once and used for every row of X in the tile
//     1-2     integer scales of the run
//     2       sums, two chains; other rows of X fill the processor's window
//
//     for each row of X:   8 x vpdpbusd sum, codes, [activations]{1to16}    no shuffle, no
//                          1-2 x vpmulld, vpaddd to the row's int32 total    horizontal sum
//
// Totals live in L1 (64 bytes a row of X), so the number of rows of X is a loop and not a template
// parameter: any number from 1 to kTileRows costs what it should, with no cliff. Floats come in
// once per block, in the loop of its last run: (total * d - mins * dmin) * scale of the
// activations.
//
// Two and three bits (Q2_K, Q3_K) have a scale for 16 columns. Theirs come in by one of three ways
// (Way), which give the same integers: with many rows of X codes are multiplied by their scales
// while they are unpacked, since the products fit a byte; with few, two sums of 16 columns fit a
// lane as int16, and one vpdpwssd multiplies and adds them; with one row unpacking is most of the
// work, and half of the codes are not shifted down, but their sums are. AVX2 has its scales in
// vpmaddwd, which adds pairs anyway.
//
// Limits. Zen 4 multiplies in two of its four vector pipes, one zmm a cycle, whatever the kind:
// vpdpbusd, vpmulld, vpdpwssd and vmulps share them; additions and conversions go elsewhere, if not
// always. Multiplications of 256 columns x 16 rows x 1 row of X:
//
//                      products  scales  mins  floats  in all    vpdpbusd's share
//     Q2_K                   64       -     8       3      75    85 %   (8 scales with few rows)
//     Q3_K                   64       -     -       2      66    97 %   (less what scaling costs)
//     Q4_K Q5_K              64       8     4       3      79    81 %
//     Q6_K                   64      16     -       2      82    78 %
//     Q4_0 Q5_0 Q8_0         64       -     -      16      80    80 %
//     Q4_1 Q5_1              64       -     8      16      88    73 %
//
// One row of X is bound by memory, and every line is asked for kPrefetchAhead bytes ahead. Some
// processors would do as well by themselves with one row, as long as addresses ascend (Zen 4);
// others read at half their speed then (Zen 5). With more rows no processor does: its window is
// full of products.

#include "kernels/packed/activations.hpp"
#include "kernels/packed/layout.hpp"
#include "kernels/packed/scales.hpp"

namespace kquant::kernels {

inline constexpr std::size_t kPrefetchAhead = 9728;

/// Where lines that are asked for ahead go to; the values are __builtin_prefetch's.
enum class Fetch : std::uint8_t {
  kOnce = 0,  ///< to L1, not to stay: weights are multiplied sooner than they arrive
  kToL2 = 2   ///< the processor does the rest; many lines on their way to L1 stall other loads
};

/// What the offset of codes takes away, for every sum of products: -kOffset * sum of activations.
/// [K / 32][w][sums in a run], or one a super-block where codes are premultiplied.
template <class F>
KQ_INLINE void make_starts(const Tile& tile, std::size_t n_blocks, Way way, std::int32_t* starts) {
  constexpr int kOffset = PackedLayout<F>::kOffset;
  const std::size_t w = tile.width;
  for (std::size_t b = 0; b < n_blocks; ++b)
    for (std::size_t m = 0; m < w; ++m) {
      if constexpr (F::kBlock == 32) {
        starts[b * w + m] = -kOffset * tile.sums[b * w + m];
      } else {
        static_assert(F::kSub == 16);
        const std::int16_t* sums = tile.sums + (b * w + m) * kSumsPerSuper;
        if (way == Way::kScaledCodes) {
          int sum = 0;
          for (int j = 0; j < 16; ++j) sum += sums[j];
          starts[b * w + m] = -128 * sum;
        } else {
          const int factor = way == Way::kOneRow ? -4 * kOffset : -kOffset;
          for (std::size_t j = 0; j < 16; ++j)
            starts[((b * 8 + j / 2) * w + m) * 2 + j % 2] =
                factor * sums[pair_place(static_cast<int>(j))];
        }
      }
    }
}

/// Of blocks of 32 with mins: scale * sum of the codes of activations, [K / 32][w].
template <class F>
KQ_INLINE void make_scaled_sums(const Tile& tile, std::size_t n_blocks, float* scaled_sums) {
  for (std::size_t i = 0; i < n_blocks * tile.width; ++i)
    scaled_sums[i] = tile.scales[i] * static_cast<float>(tile.sums[i]);
}

template <class F, class Isa>
struct PackedKernel {
  using Rows = typename Isa::Rows;
  using Word = typename Rows::Word;
  using Int = typename Rows::Int;
  using Float = typename Rows::Float;
  using Layout = PackedLayout<F>;
  static constexpr int kMaxCode = Layout::kMaxCode;
  /// What the offset of codes takes away: a start for each sum, or for all sums of a block at once.
  static constexpr bool kOffsets = Layout::kOffset != 0 && !(F::kSigned && Isa::kCentersBytes),
                        kOffsetsAtEnd = kOffsets && Isa::kScalesInDot && F::kSub == 16,
                        kStarts = kOffsets && !kOffsetsAtEnd;
  static constexpr bool kScaledSums = F::kBlock == 32 && F::kHasMin;
  static_assert(!(kStarts && kScaledSums));
  static constexpr std::size_t kSliceBytes = 4 * Rows::kRows;

  /// One k-quant block, rows `slice` on, against all rows of X; acc[m] is theirs.
  template <Way kWay, Fetch kFetch>
  KQ_INLINE static void super_block(const std::uint8_t* panel, std::size_t b, std::size_t slice,
                                    const Tile& tile, const std::int32_t* starts, float* acc) {
    const std::size_t w = kWay == Way::kOneRow ? 1 : tile.width;
    const std::uint8_t* codes_at = panel + Layout::codes_at(b) + slice * kSliceBytes;
    constexpr std::size_t kHead = (Layout::kScaleWords + 1) * kVectorBytes;
    const bool fetch = slice == 0;
    if (fetch) prefetch<kFetch, kHead>(codes_at - kHead);
    Word words[Layout::kScaleWords];
    unrolled<static_cast<int>(Layout::kScaleWords)>([&]<int i>() __attribute__((always_inline)) {
      words[i] = Rows::template load<Word>(panel + Layout::scales_at(b) + i * kVectorBytes +
                                           slice * kSliceBytes);
    });
    const auto scales = F::unpack_scale_words(words);

    const std::size_t rows_at = slice * Rows::kRows * sizeof(Half);
    Float d = Isa::row_halves(panel + Layout::d_at(b) + rows_at);
    if constexpr (kWay == Way::kScaledCodes && !F::kHasMin) d = -d;  // 128 - (q - zero) * s
    [[maybe_unused]] Float minus_dmin{};
    constexpr int kPairs = F::kHasMin ? kSubs<F> / 2 : 0;
    [[maybe_unused]] Word pairs[F::kHasMin ? kPairs : 1];
    if constexpr (F::kHasMin) {
      minus_dmin = -Isa::row_halves(panel + Layout::dmin_at(b) + rows_at);
      unrolled<kPairs>([&]<int i>() __attribute__((always_inline)) {
        pairs[i] = (scales.min[i / 2] >> (8 * (i % 2))) & 0x00ff00ffu;
      });
    }
    [[maybe_unused]] Word scale_pairs[8];
    if constexpr (kOffsetsAtEnd)
      unrolled<8>([&]<int i>() __attribute__((always_inline)) {
        scale_pairs[i] = scale_pair_of<Isa>(scales.scale, i);
      });
    const auto finish = [&](std::size_t m, Int total) __attribute__((always_inline)) {
      if constexpr (kOffsetsAtEnd) {
        Int sum{};
        unrolled<8>([&]<int i>() __attribute__((always_inline)) {
          sum =
              Isa::dot_pairs(sum, scale_pairs[i], tile.sums + (b * w + m) * kSumsPerSuper + 2 * i);
        });
        total -= sum * Layout::kOffset;
      }
      Float value = Rows::to_float(total) * d;
      if constexpr (F::kHasMin) {
        const std::int16_t* sums =
            tile.sums + (b * w + m) * kSumsPerSuper + (F::kSub == 32 ? 16 : 0);
        Int mins{};
        unrolled<kPairs>([&]<int i>() __attribute__((always_inline)) {
          mins = Isa::dot_pairs(mins, pairs[i], sums + 2 * i);
        });
        value = Isa::multiply_add(Rows::to_float(mins), minus_dmin, value);
      }
      add(acc, m, slice, value, tile.scales[b * w + m]);
    };

    if constexpr (kWay == Way::kPairedSums || kWay == Way::kOneRow)
      pairs_of_runs<kWay, kFetch>(codes_at, fetch, scales.scale, b, w, tile, starts, finish);
    else
      runs<kWay, kFetch>(codes_at, fetch, scales.scale, b, w, tile, starts, finish);
  }

  /// The runs of a k-quant block, one after the other.
  template <Way kWay, Fetch kFetch>
  KQ_INLINE static void runs(const std::uint8_t* codes_at, bool fetch, const auto& scales,
                             std::size_t b, std::size_t w, const Tile& tile,
                             const std::int32_t* starts, const auto& finish) {
    constexpr int kScales = kSubs<F> / 8, kVectors = kRunVectors / kScales;  // of a run; of a scale
    Int totals[kTileRows];
    unrolled<8>([&]<int g>() __attribute__((always_inline)) {
      const std::uint8_t* run_at = codes_at + g * Layout::kRunBytes;
      Word codes[kRunVectors];
      unpack_run<F, Isa>(run_at, codes);
      if (fetch) prefetch<kFetch, Layout::kRunBytes>(run_at);
      [[maybe_unused]] Int scale[kScales];
      [[maybe_unused]] Word scale16[kScales];
      unrolled<kScales>([&]<int i>() __attribute__((always_inline)) {
        constexpr int j = g * kScales + i;
        if constexpr (kWay == Way::kScaledCodes)
          premultiply<F>(codes + kVectors * i, repeated_scale<Isa, j>(scales));
        else if constexpr (Isa::kScalesInDot)
          scale16[i] = as_int16(repeated_scale<Isa, j>(scales));
        else
          scale[i] = scale_of<Isa>(scales, j);
      });
      const std::int8_t* a = tile.codes + (b * 8 + g) * w * 32;
      for (std::size_t m = 0; m < w; ++m, a += 32) {
        Int total{};
        if constexpr (g > 0) total = totals[m];
        if constexpr (kWay == Way::kScaledCodes) {
          if constexpr (g == 0 && kStarts) total = Rows::all(starts[b * w + m]);
          total = Isa::template dot<255, 8>(total, codes, a);
        } else {
          unrolled<kScales>([&]<int i>() __attribute__((always_inline)) {
            const Word* part = codes + kVectors * i;
            const std::int8_t* at = a + 4 * kVectors * i;
            if constexpr (Isa::kScalesInDot) {
              total = Isa::template dot_scaled<kMaxCode, kVectors>(total, part, at, scale16[i]);
            } else {
              const Int start =
                  kStarts ? Rows::all(starts[((b * 8 + g) * w + m) * kScales + i]) : Int{};
              total += Isa::template dot<kMaxCode, kVectors>(start, part, at) * scale[i];
            }
          });
        }
        if constexpr (g < 7)
          totals[m] = total;
        else
          finish(m, total);
      }
    });
  }

  /// Two runs at a time: sums of 16 columns of the one and of the other in a lane meet two scales.
  template <Way kWay, Fetch kFetch>
  KQ_INLINE static void pairs_of_runs(const std::uint8_t* codes_at, bool fetch, const auto& scales,
                                      std::size_t b, std::size_t w, const Tile& tile,
                                      const std::int32_t* starts, const auto& finish) {
    Int totals[kTileRows];
    unrolled<4>([&]<int k>() __attribute__((always_inline)) {
      Word codes[2][kRunVectors], pair_scales[2];
      unrolled<2>([&]<int i>() __attribute__((always_inline)) {
        const std::uint8_t* run_at = codes_at + (2 * k + i) * Layout::kRunBytes;
        if constexpr (kWay == Way::kOneRow)
          unpack_in_place<F, Isa>(run_at, codes[i]);
        else
          unpack_run<F, Isa>(run_at, codes[i]);
        if (fetch) prefetch<kFetch, Layout::kRunBytes>(run_at);
        pair_scales[i] = scale_pair_of<Isa>(scales, 2 * k + i);
      });
      for (std::size_t m = 0; m < w; ++m) {
        Int total{}, sums[2][2];
        if constexpr (k > 0) total = totals[m];
        unrolled<4>([&]<int i>() __attribute__((always_inline)) {
          const std::size_t at = ((b * 8 + 2 * k + i / 2) * w + m) * 2 + i % 2;
          sums[i / 2][i % 2] = sum_of_16<kWay>(codes[i / 2] + i % 2 * 4, tile.codes + at * 16,
                                               kStarts ? Rows::all(starts[at]) : Int{});
        });
        unrolled<2>([&]<int i>() __attribute__((always_inline)) {
          total = Isa::add_pairs(total, Isa::pair(sums[0][i], sums[1][i]), pair_scales[i]);
        });
        if constexpr (k < 3)
          totals[m] = total;
        else
          finish(m, total);
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

  /// One block of 32, which is one run.
  template <Fetch kFetch>
  KQ_INLINE static void small_block(const std::uint8_t* panel, std::size_t b, std::size_t slice,
                                    const Tile& tile, const std::int32_t* starts,
                                    const float* scaled_sums, float* acc) {
    const std::size_t w = tile.width;
    const std::uint8_t* run_at = panel + Layout::codes_at(b) + slice * kSliceBytes;
    Word codes[kRunVectors];
    unpack_run<F, Isa>(run_at, codes);
    if (slice == 0) {
      prefetch<kFetch, Layout::kRunBytes>(run_at);
      if (b % Layout::kBlocksAHead == 0) prefetch<kFetch, kVectorBytes>(run_at - kVectorBytes);
    }
    const std::size_t rows_at = slice * Rows::kRows * sizeof(Half);
    const Float d = Isa::row_halves(panel + Layout::d_at(b) + rows_at);
    [[maybe_unused]] Float min{};
    if constexpr (F::kHasMin) min = Isa::row_halves(panel + Layout::dmin_at(b) + rows_at);
    const std::int8_t* a = tile.codes + b * w * 32;
    for (std::size_t m = 0; m < w; ++m) {
      const Int start = kStarts ? Rows::all(starts[b * w + m]) : Int{};
      const Int sum = Isa::template dot<kMaxCode, 8>(start, codes, a + 32 * m);
      add(acc, m, slice, Rows::to_float(sum) * d, tile.scales[b * w + m]);
      // These mins are added (block32 formats have the min factor -1).
      if constexpr (F::kHasMin) add(acc, m, slice, min, scaled_sums[b * w + m]);
    }
  }

  static constexpr Fetch fetch_of(std::size_t w) {
    return 32 * w <= F::kBits * Rows::kRows ? Fetch::kOnce : Fetch::kToL2;
  }
  template <Fetch kFetch, std::size_t kBytes>
  KQ_INLINE static void prefetch(const std::uint8_t* p) {
    unrolled<kBytes / 64>([&]<int kLine>() __attribute__((always_inline)) {
      __builtin_prefetch(p + kPrefetchAhead + 64 * kLine, 0, static_cast<int>(kFetch));
    });
  }

  /// acc of row m of X += value * factor
  KQ_INLINE static void add(float* acc, std::size_t m, std::size_t slice, Float value,
                            float factor) {
    float* at = acc + m * kPanelRows + slice * Rows::kRows;
    Rows::store(at, Isa::multiply_add(value, Rows::all(factor), Rows::template load<Float>(at)));
  }

  template <Way kWay, Fetch kFetch>
  KQ_INLINE static void panel(const std::uint8_t* panel, std::size_t n_blocks, const Tile& tile,
                              const std::int32_t* starts, const float* scaled_sums, float* acc) {
    for (std::size_t b = 0; b < n_blocks; ++b)
      for (std::size_t slice = 0; slice < kPanelRows / Rows::kRows; ++slice) {
        if constexpr (F::kBlock == 32)
          small_block<kFetch>(panel, b, slice, tile, starts, scaled_sums, acc);
        else
          super_block<kWay, kFetch>(panel, b, slice, tile, starts, acc);
      }
  }

  static void multiply(const PackedProduct& p) noexcept {
    constexpr bool kScalesCodes = Isa::kPremultiplies && kBytesAfterScale<F>,
                   kPairsSums = Isa::kPairsSums && kBytesAfterScale<F>;
    constexpr int kGroup = F::kBlock;
    const std::size_t n_blocks = p.cols / F::kBlock, panel_bytes = Layout::panel_bytes(p.cols);
    auto* starts = reinterpret_cast<std::int32_t*>(p.scratch);
    auto* scaled_sums = reinterpret_cast<float*>(p.scratch);
    for (std::size_t first = 0; first < p.activations->rows;) {
      const Tile tile = Tile::of<kGroup>(*p.activations, first);
      const Way way = kScalesCodes && tile.width >= kScaledCodesFrom<F> ? Way::kScaledCodes
                      : !kPairsSums                                     ? Way::kScaledSums
                      : tile.width > 1                                  ? Way::kPairedSums
                                                                        : Way::kOneRow;
      const Fetch fetch = fetch_of(tile.width);
      if constexpr (kStarts) make_starts<F>(tile, n_blocks, way, starts);
      if constexpr (kScaledSums) make_scaled_sums<F>(tile, n_blocks, scaled_sums);
      for (std::size_t row = 0; row < p.rows; row += kPanelRows) {
        const auto* at =
            reinterpret_cast<const std::uint8_t*>(p.panels) + row / kPanelRows * panel_bytes;
        alignas(64) float acc[kTileRows * kPanelRows];
        for (std::size_t i = 0; i < tile.width * kPanelRows; ++i) acc[i] = 0.0f;
        const auto multiply_by = [&]<Way kWay, Fetch kFetch>() __attribute__((always_inline)) {
          if (way == kWay && fetch == kFetch)
            panel<kWay, kFetch>(at, n_blocks, tile, starts, scaled_sums, acc);
        };
        if constexpr (kScalesCodes)
          multiply_by.template operator()<Way::kScaledCodes, Fetch::kToL2>();
        if constexpr (kPairsSums) {
          static_assert(fetch_of(2) == Fetch::kToL2);
          multiply_by.template operator()<Way::kPairedSums, Fetch::kToL2>();
          multiply_by.template operator()<Way::kOneRow, fetch_of(1)>();
        } else {
          multiply_by.template operator()<Way::kScaledSums, Fetch::kOnce>();
          multiply_by.template operator()<Way::kScaledSums, Fetch::kToL2>();
        }
        const std::size_t left = p.rows - row, n = left < kPanelRows ? left : kPanelRows;
        for (std::size_t m = 0; m < tile.width; ++m)
          __builtin_memcpy(p.y + (tile.first + m) * p.y_stride + row, acc + m * kPanelRows,
                           n * sizeof(float));
      }
      first += tile.width;
    }
  }

  /// Of one thread: the starts or the scaled sums of a tile.
  static std::size_t scratch_bytes(std::size_t cols, std::size_t tile) noexcept {
    if constexpr (kScaledSums) return cols / 32 * tile * sizeof(float);
    return kStarts ? cols / 32 * tile * (F::kBlock == 256 ? 2 : 1) * sizeof(std::int32_t) : 0;
  }
};

}  // namespace kquant::kernels
