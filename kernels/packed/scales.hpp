#pragma once
// How the integer scales of k-quants meet codes or sums of products
// (packed/super_block.hpp says when). Words are those of F::unpack_scale_words: four scales of each
// row.

#include "kernels/packed/layout.hpp"

namespace kquant::kernels {

/// Rows of X from which on multiplying codes by their scales pays: one product of four with mins,
/// two and two more instructions without.
template <class F>
inline constexpr std::size_t kScaledCodesFrom = F::kHasMin ? 8 : 24;

/// Formats whose codes times scales fit bytes, and whose sums of 16 columns fit int16.
template <class F>
inline constexpr bool kBytesAfterScale = F::kBlock == 256 && F::kBits <= 3;

/// How scales meet products. The integers that come out are the same.
enum class Way : std::uint8_t {
  kScaledSums,   ///< sum * scale
  kScaledCodes,  ///< codes are multiplied by their scale while they are unpacked
  kPairedSums,   ///< two sums, as int16, times two scales
  kOneRow        ///< the same with one row of X, and codes left where they are in a byte
};

/// Scale j of a block in every byte of a lane; shifted right by 8 as int16, twice as int16.
template <int j, class Word, int... kAt>
KQ_INLINE Word repeat_byte(Word word, std::integer_sequence<int, kAt...>) {
  using Bytes = typename VectorOf<std::uint8_t, sizeof(Word)>::Type;
  const auto bytes = (Bytes)word;
  return (Word)__builtin_shufflevector(bytes, bytes, (kAt / 4 * 4 + j % 4)...);
}
template <class Isa, int j, class Scales>
KQ_INLINE typename Isa::Rows::Word repeated_scale(const Scales& words) {
  constexpr int kBytes = 4 * Isa::Rows::kRows;
  return repeat_byte<j>(words[j / 4], std::make_integer_sequence<int, kBytes>{});
}
template <class Word>
KQ_INLINE Word as_int16(Word repeated) {
  using Halves = typename VectorOf<std::int16_t, sizeof(Word) / 2>::Type;
  return (Word)((Halves)repeated >> 8);
}

/// The codes of 16 columns times their scale, as bytes: q * s (at most 3 * 15) with mins, and
/// 128 - (q - zero) * s (4 … 252 for |s| <= 32) without. Bytes are multiplied as 16 bits: of
/// unsigned products below 256 both at once; else one at a time, modulo 256.
template <class F, class Word>
KQ_INLINE void premultiply(Word* codes, Word repeated_scale) {
  using Bytes = typename VectorOf<std::uint8_t, sizeof(Word)>::Type;
  using Halves = typename VectorOf<std::uint16_t, sizeof(Word) / 2>::Type;
  const auto s = (Halves)as_int16(repeated_scale);
  [[maybe_unused]] const auto zero =
      (Bytes)repeated_scale * std::uint8_t{F::kZero} + std::uint8_t{128};
  unrolled<4>([&]<int v>() __attribute__((always_inline)) {
    const auto low = (Word)((Halves)codes[v] * s);
    if constexpr (F::kHasMin) {
      codes[v] = low;
    } else {
      const auto high = (Word)((Halves)(codes[v] & 0xff00ff00u) * s);
      codes[v] = (Word)(zero - (Bytes)((low & 0x00ff00ffu) | high));
    }
  });
}

/// Scale j of a block as int32 in every lane.
template <class Isa, class Scales>
KQ_INLINE typename Isa::Rows::Int scale_of(const Scales& words, int j) {
  using Int = typename Isa::Rows::Int;
  return (Int)(words[j / 4] << (24 - 8 * (j % 4))) >> 24;
}

/// Scales 4 * (i / 2) + i % 2 and the one after the next, as int16 side by side.
template <class Isa, class Scales>
KQ_INLINE typename Isa::Rows::Word scale_pair_of(const Scales& words, int i) {
  using Word = typename Isa::Rows::Word;
  using Halves = typename VectorOf<std::int16_t, sizeof(Word) / 2>::Type;
  const Word word = words[i / 2];
  return (Word)((Halves)(i % 2 == 0 ? word << 8 : word) >> 8);
}

}  // namespace kquant::kernels
