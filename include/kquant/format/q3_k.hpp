#pragma once
// Q3_K: 3.4375 bits per weight. 256 weights in 16 sub-blocks of 16, each with a signed 6-bit scale.
//
//     byte 0             32                              96            108    110
//          | hi[32]      | lo[64]                        | sc[12]      | d    |
//
//     lo: two low bits, as in Q2_K      hi: bit g of byte i is the third bit of weight i of run g
//     sc: scale j + 32 in six bits, j = 0..15
//         bytes 0-3: low nibbles of scales 0-3   | of 8-11  << 4
//         bytes 4-7: low nibbles of scales 4-7   | of 12-15 << 4
//         bytes 8-11: high pairs of scales k, k+4, k+8, k+12 in byte 8+k, from the lowest bits up
//
//     value = (d * scale) * (q - 4),   0 <= q <= 7,   -32 <= scale <= 31

#include "kquant/format/run.hpp"

namespace kquant {

struct Q3_K {
  struct Block {
    std::uint8_t hi[32];
    std::uint8_t lo[64];
    std::uint8_t sc[12];
    Half d;
  };
  static_assert(sizeof(Block) == 110);

  static constexpr TensorType type = TensorType::Q3_K;
  static constexpr std::string_view name = "Q3_K";
  static constexpr int kBlock = 256, kRun = 32, kSub = 16, kBits = 3, kZero = 4;
  static constexpr bool kHasMin = false, kSigned = false;

  KQ_INLINE static constexpr Run run(int g) {
    return {.lo_at = 32 + (g / 4) * 32,
            .lo_shift = 2 * (g % 4),
            .lo_mask = 3,
            .hi_at = 0,
            .hi_shift = g,
            .hi_mask = 1,
            .hi_up = 2};
  }
  template <class Word>
  KQ_INLINE static constexpr ScaleWord<Word> unpack_scale_word(const Word* sc, int w) {
    const Word biased =
        ((sc[w % 2] >> (4 * (w / 2))) & 0x0f0f0f0fu) | (((sc[2] >> (2 * w)) & 0x03030303u) << 4);
    return {.scale = ((biased | 0x80808080u) - 0x20202020u) ^ 0x80808080u};  // - 32 in every byte
  }
  template <class Word>
  KQ_INLINE static constexpr ScaleWords<16, Word> unpack_scale_words(const Word* sc) {
    return unpack_every_scale_word<Q3_K>(sc);
  }
  KQ_INLINE static constexpr ScaleWords<16> unpack_scales(const Block& b) {
    return unpack_scale_words(load_words<3>(b.sc).at);
  }
  KQ_INLINE static constexpr void pack_scales(const ScaleWords<16>& s, Block& b) {
    std::uint32_t low[2] = {0, 0}, high = 0;
    for (int w = 0; w < 4; ++w) {
      const std::uint32_t biased = (s.scale[w] ^ 0x20202020u) & 0x3f3f3f3fu;  // + 32, six bits
      low[w % 2] |= (biased & 0x0f0f0f0fu) << (4 * (w / 2));
      high |= ((biased >> 4) & 0x03030303u) << (2 * w);
    }
    store_word(b.sc, low[0]);
    store_word(b.sc + 4, low[1]);
    store_word(b.sc + 8, high);
  }
  KQ_INLINE static constexpr float d(const Block& b) { return to_float(b.d); }
  KQ_INLINE static constexpr float dmin(const Block&) { return 0.0f; }
  KQ_INLINE static constexpr void set_d(Block& b, float d, float) { b.d = to_half(d); }
};

}  // namespace kquant
