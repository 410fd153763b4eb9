#pragma once
// The 12-byte field that Q4_K and Q5_K share: eight 6-bit scales and eight 6-bit mins. All four
// bytes of a word are worked on at once.
//
//     word 0:  s0..s3 in bits 0-5,   high 2 bits of s4..s7 in bits 6-7   of each byte
//     word 1:  m0..m3 in bits 0-5,   high 2 bits of m4..m7 in bits 6-7
//     word 2:  low 4 bits of s4..s7 in bits 0-3,   of m4..m7 in bits 4-7

#include "kquant/format/run.hpp"

namespace kquant {

/// Scales and mins 4w … 4w + 3.
template <class Word>
KQ_INLINE constexpr ScaleWord<Word> unpack_scales_and_mins_6bit(const Word* sc, int w) {
  constexpr std::uint32_t kLow6 = 0x3f3f3f3fu, kHigh2 = 0x30303030u, kLow4 = 0x0f0f0f0fu;
  const Word w0 = sc[0], w1 = sc[1], w2 = sc[2];
  if (w == 0) return {.scale = w0 & kLow6, .min = w1 & kLow6};
  return {.scale = (w2 & kLow4) | ((w0 >> 2) & kHigh2),
          .min = ((w2 >> 4) & kLow4) | ((w1 >> 2) & kHigh2)};
}

KQ_INLINE constexpr void pack_scales_and_mins_6bit(const ScaleWords<8>& s, std::uint8_t* sc) {
  constexpr std::uint32_t kHigh2 = 0x30303030u, kLow4 = 0x0f0f0f0fu;
  store_word(sc, s.scale[0] | ((s.scale[1] & kHigh2) << 2));
  store_word(sc + 4, s.min[0] | ((s.min[1] & kHigh2) << 2));
  store_word(sc + 8, (s.scale[1] & kLow4) | ((s.min[1] & kLow4) << 4));
}

}  // namespace kquant
