#pragma once
// Q6_K: 6.5625 bits per weight. 256 weights in 16 sub-blocks of 16, each with an int8 scale.
//
//     byte 0                             128             192           208    210
//          | lo[128]                     | hi[64]        | sc[16]      | d    |
//
//     Each half c (128 weights, runs 4c .. 4c+3) has 64 bytes of lo and 32 of hi:
//         lo byte      i: run 4c   low nibble, run 4c+2 high nibble       (i < 32)
//         lo byte 32 + i: run 4c+1 low nibble, run 4c+3 high nibble
//         hi byte      i: two high bits of runs 4c, 4c+1, 4c+2, 4c+3, from the lowest up
//
//     value = (d * scale) * (q - 32),   0 <= q <= 63,   -128 <= scale <= 127

#include "kquant/format/run.hpp"

namespace kquant {

struct Q6_K {
  struct Block {
    std::uint8_t lo[128];
    std::uint8_t hi[64];
    std::uint8_t sc[16];
    Half d;
  };
  static_assert(sizeof(Block) == 210);

  static constexpr TensorType type = TensorType::Q6_K;
  static constexpr std::string_view name = "Q6_K";
  static constexpr int kBlock = 256, kRun = 32, kSub = 16, kBits = 6, kZero = 32;
  static constexpr bool kHasMin = false, kSigned = false;

  KQ_INLINE static constexpr Run run(int g) {
    const int c = g / 4, r = g % 4;
    return {.lo_at = c * 64 + (r % 2) * 32,
            .lo_shift = 4 * (r / 2),
            .lo_mask = 15,
            .hi_at = 128 + c * 32,
            .hi_shift = 2 * r,
            .hi_mask = 3,
            .hi_up = 4};
  }
  template <class Word>
  KQ_INLINE static constexpr ScaleWord<Word> unpack_scale_word(const Word* sc, int w) {
    return {.scale = sc[w]};
  }
  template <class Word>
  KQ_INLINE static constexpr ScaleWords<16, Word> unpack_scale_words(const Word* sc) {
    return unpack_every_scale_word<Q6_K>(sc);
  }
  KQ_INLINE static constexpr ScaleWords<16> unpack_scales(const Block& b) {
    return unpack_scale_words(load_words<4>(b.sc).at);
  }
  KQ_INLINE static constexpr void pack_scales(const ScaleWords<16>& s, Block& b) {
    for (int w = 0; w < 4; ++w) store_word(b.sc + 4 * w, s.scale[w]);
  }
  KQ_INLINE static constexpr float d(const Block& b) { return to_float(b.d); }
  KQ_INLINE static constexpr float dmin(const Block&) { return 0.0f; }
  KQ_INLINE static constexpr void set_d(Block& b, float d, float) { b.d = to_half(d); }
};

}  // namespace kquant
