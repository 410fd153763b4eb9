#pragma once
// Q2_K: 2.625 bits per weight. 256 weights in 16 sub-blocks of 16, each with a 4-bit scale and min.
//
//     byte 0             16                              80     82     84
//          | sc[16]      | lo[64]                        | d    | dmin |
//
//     sc: byte j is scale (low nibble) and min (high nibble) of sub-block j
//     lo: byte i      holds weight i of runs 0 1 2 3, two bits each from the lowest up   (i < 32)
//         byte 32 + i holds weight i of runs 4 5 6 7
//
//     value = (d * scale) * q - (dmin * min),   0 <= q <= 3

#include "kquant/format/run.hpp"

namespace kquant {

struct Q2_K {
  struct Block {
    std::uint8_t sc[16];
    std::uint8_t lo[64];
    Half d;
    Half dmin;
  };
  static_assert(sizeof(Block) == 84);

  static constexpr TensorType type = TensorType::Q2_K;
  static constexpr std::string_view name = "Q2_K";
  static constexpr int kBlock = 256, kRun = 32, kSub = 16, kBits = 2, kZero = 0;
  static constexpr bool kHasMin = true, kSigned = false;

  KQ_INLINE static constexpr Run run(int g) {
    return {.lo_at = 16 + (g / 4) * 32, .lo_shift = 2 * (g % 4), .lo_mask = 3};
  }
  template <class Word>
  KQ_INLINE static constexpr ScaleWord<Word> unpack_scale_word(const Word* sc, int w) {
    return {.scale = sc[w] & 0x0f0f0f0fu, .min = (sc[w] >> 4) & 0x0f0f0f0fu};
  }
  template <class Word>
  KQ_INLINE static constexpr ScaleWords<16, Word> unpack_scale_words(const Word* sc) {
    return unpack_every_scale_word<Q2_K>(sc);
  }
  KQ_INLINE static constexpr ScaleWords<16> unpack_scales(const Block& b) {
    return unpack_scale_words(load_words<4>(b.sc).at);
  }
  KQ_INLINE static constexpr void pack_scales(const ScaleWords<16>& s, Block& b) {
    for (int w = 0; w < 4; ++w) store_word(b.sc + 4 * w, s.scale[w] | (s.min[w] << 4));
  }
  KQ_INLINE static constexpr float d(const Block& b) { return to_float(b.d); }
  KQ_INLINE static constexpr float dmin(const Block& b) { return to_float(b.dmin); }
  KQ_INLINE static constexpr void set_d(Block& b, float d, float dmin) {
    b.d = to_half(d);
    b.dmin = to_half(dmin);
  }
};

}  // namespace kquant
