#pragma once
// Rows of a file -> panels (packed/layout.hpp). Codes are unpacked row by row with the format's own
// planes, turned over in L1, and packed again.

#include <utility>

#include "kernels/packed/layout.hpp"
#include "kernels/table.hpp"

namespace kquant::kernels {

/// A row's codes of one super-block as unsigned bytes; blocks past the end of the row are garbage.
template <class F, class Isa>
KQ_INLINE void unpack_super(const std::uint8_t* super, std::uint8_t* codes) {
  unrolled<kChunks>([&]<int kChunk>() __attribute__((always_inline)) {
    const auto bytes = stored_codes<F, Isa, kChunk>(super);
    static_assert(sizeof bytes == 64);
    std::uint8_t* const to = codes + 64 * kChunk;
    if constexpr (requires { bytes.v[0]; })  // register by register: all at once go by 16 bytes
      for (std::size_t at = 0; at < 64; at += sizeof bytes.v[0])
        __builtin_memcpy(to + at, &bytes.v[at / sizeof bytes.v[0]], sizeof bytes.v[0]);
    else
      __builtin_memcpy(to, &bytes, 64);
  });
  if constexpr (F::kSigned)
    for (int i = 0; i < kSuper; ++i) codes[i] = static_cast<std::uint8_t>(codes[i] ^ 0x80);
}

/// Scale words and factors of one block of one row.
template <class F>
KQ_INLINE void pack_factors(const typename F::Block& block, std::size_t b, std::size_t row,
                            std::uint8_t* panel) {
  using Layout = PackedLayout<F>;
  if constexpr (Layout::kScaleWords > 0)
    for (std::size_t w = 0; w < Layout::kScaleWords; ++w)
      __builtin_memcpy(panel + Layout::scales_at(b) + w * kVectorBytes + 4 * row, block.sc + 4 * w,
                       4);
  __builtin_memcpy(panel + Layout::d_at(b) + row * sizeof(Half), &block.d, sizeof(Half));
  std::uint8_t* const min = panel + Layout::dmin_at(b) + row * sizeof(Half);
  if constexpr (kIsBlock32<F> && F::kHasMin)
    __builtin_memcpy(min, &block.m, sizeof(Half));
  else if constexpr (F::kHasMin)
    __builtin_memcpy(min, &block.dmin, sizeof(Half));
}

/// Two rows of 2 x 2 squares of kSide x kSide lanes: the square above the diagonal of each matrix
/// changes places with the one below.
template <int kSide, class Row, int... kLane>
KQ_INLINE void turn_squares(Row& upper, Row& lower, std::integer_sequence<int, kLane...>) {
  constexpr int kLanes = sizeof...(kLane);
  const Row turned =
      __builtin_shufflevector(upper, lower, ((kLane & kSide) ? kLanes + kLane - kSide : kLane)...);
  lower =
      __builtin_shufflevector(upper, lower, ((kLane & kSide) ? kLanes + kLane : kLane + kSide)...);
  upper = turned;
}

template <class Row, class Word, int... kLane>
KQ_INLINE void join(const Row& low, const Row& high, Word& word,
                    std::integer_sequence<int, kLane...>) {
  word = __builtin_shufflevector(low, high, kLane...);
}

/// 32 columns of 8 or 16 rows -> eight vectors of four columns each: matrices of 8 x 8 times four
/// bytes, turned over in halves, quarters and eighths.
template <int kRows>
KQ_INLINE void turn(const std::uint8_t (*codes)[kSuper], std::size_t first_col,
                    typename VectorOf<std::uint32_t, kRows>::Type (&words)[kRunVectors]) {
  constexpr int kSide = kRunVectors;
  using Row = VectorOf<std::uint32_t, kSide>::Type;
  Row rows[kRows];
  // Registers one by one: gcc copies arrays by 16 bytes, which no load of 32 can be forwarded from.
  unrolled<kRows>([&]<int r>() __attribute__((always_inline)) {
    Row row;
    __builtin_memcpy(&row, codes[r] + first_col, sizeof row);
    rows[r] = row;
  });
  const auto turn_all = [&]<int kPart>() __attribute__((always_inline)) {
    unrolled<kRows>([&]<int r>() __attribute__((always_inline)) {
      if constexpr ((r & kPart) == 0)
        turn_squares<kPart>(rows[r], rows[r + kPart], std::make_integer_sequence<int, kSide>{});
    });
  };
  turn_all.template operator()<4>();
  turn_all.template operator()<2>();
  turn_all.template operator()<1>();
  unrolled<kSide>([&]<int t>() __attribute__((always_inline)) {
    if constexpr (kRows == kSide)
      words[t] = rows[t];
    else
      join(rows[t], rows[kSide + t], words[t], std::make_integer_sequence<int, kRows>{});
  });
}

/// Packs `count` <= 16 rows; the rest of the panel becomes zeros.
template <class F, class Isa>
void pack_panel(const std::byte* rows, std::size_t row_bytes, std::size_t count, std::size_t cols,
                std::byte* out) noexcept {
  using Block = typename F::Block;
  using Layout = PackedLayout<F>;
  const std::size_t n_blocks = cols / F::kBlock;
  auto* panel = reinterpret_cast<std::uint8_t*>(out);
  if (count < kPanelRows || n_blocks % Layout::kBlocksAHead != 0)
    __builtin_memset(panel, 0, Layout::panel_bytes(cols));
  constexpr std::size_t kBlocksInSuper = kSuper / F::kBlock;
  alignas(64) std::uint8_t codes[kPanelRows][kSuper];
  __builtin_memset(codes, 0, sizeof codes);
  for (std::size_t first = 0; first < n_blocks; first += kBlocksInSuper) {
    const std::size_t left = n_blocks - first;
    const std::size_t n = left < kBlocksInSuper ? left : kBlocksInSuper;
    for (std::size_t row = 0; row < count; ++row) {
      const auto* from =
          reinterpret_cast<const std::uint8_t*>(rows) + row * row_bytes + first * sizeof(Block);
      // Rows are 16 short streams, which no prefetcher sees: the same place of the next panel.
      for (std::size_t at = 0; at < kBlocksInSuper * sizeof(Block); at += 64)
        __builtin_prefetch(from + kPanelRows * row_bytes + at, 0, 2);
      if (n == kBlocksInSuper) {
        unpack_super<F, Isa>(from, codes[row]);
      } else {
        std::uint8_t padded[kBlocksInSuper * sizeof(Block)] = {};
        __builtin_memcpy(padded, from, n * sizeof(Block));
        unpack_super<F, Isa>(padded, codes[row]);
      }
      for (std::size_t b = 0; b < n; ++b) {
        Block block;
        __builtin_memcpy(&block, from + b * sizeof(Block), sizeof(Block));
        pack_factors<F>(block, first + b, row, panel);
      }
    }
    constexpr int kRows = Isa::Rows::kRows == 16 ? 16 : 8;
    for (std::size_t run = 0; run < n * Layout::kRunsInBlock; ++run)
      for (std::size_t row = 0; row < kPanelRows; row += kRows) {
        typename VectorOf<std::uint32_t, kRows>::Type words[kRunVectors];
        turn<kRows>(codes + row, 32 * run, words);
        pack_run<F>(words, panel + Layout::codes_at(first + run / Layout::kRunsInBlock) +
                               run % Layout::kRunsInBlock * Layout::kRunBytes + 4 * row);
      }
  }
}

template <class F, class Isa>
std::size_t panel_bytes(std::size_t cols) noexcept {
  return PackedLayout<F>::panel_bytes(cols);
}

}  // namespace kquant::kernels
