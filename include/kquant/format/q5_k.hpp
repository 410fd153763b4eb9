#pragma once
// Q5_K: 5.5 bits per weight. Q4_K with a fifth bit in a plane of its own.
//
//     byte 0      2      4             16              48                       176
//          | d    | dmin | sc[12]      | hi[32]        | lo[128]                |
//
//     lo, sc: as in Q4_K (see q4_k.hpp)      hi: bit g of byte i is the fifth bit of weight i of
//     run g
//
//     value = (d * s) * q - (dmin * m),   0 <= q <= 31

#include "kquant/format/run.hpp"
#include "kquant/format/scales_6bit.hpp"

namespace kquant {

struct Q5_K {
  struct Block {
    Half d;
    Half dmin;
    std::uint8_t sc[12];
    std::uint8_t hi[32];
    std::uint8_t lo[128];
  };
  static_assert(sizeof(Block) == 176);

  static constexpr TensorType type = TensorType::Q5_K;
  static constexpr std::string_view name = "Q5_K";
  static constexpr int kBlock = 256, kRun = 32, kSub = 32, kBits = 5, kZero = 0;
  static constexpr bool kHasMin = true, kSigned = false;

  KQ_INLINE static constexpr Run run(int g) {
    return {.lo_at = 48 + (g / 2) * 32,
            .lo_shift = 4 * (g % 2),
            .lo_mask = 15,
            .hi_at = 16,
            .hi_shift = g,
            .hi_mask = 1,
            .hi_up = 4};
  }
  template <class Word>
  KQ_INLINE static constexpr ScaleWord<Word> unpack_scale_word(const Word* sc, int w) {
    return unpack_scales_and_mins_6bit(sc, w);
  }
  template <class Word>
  KQ_INLINE static constexpr ScaleWords<8, Word> unpack_scale_words(const Word* sc) {
    return unpack_every_scale_word<Q5_K>(sc);
  }
  KQ_INLINE static constexpr ScaleWords<8> unpack_scales(const Block& b) {
    return unpack_scale_words(load_words<3>(b.sc).at);
  }
  KQ_INLINE static constexpr void pack_scales(const ScaleWords<8>& s, Block& b) {
    pack_scales_and_mins_6bit(s, b.sc);
  }
  KQ_INLINE static constexpr float d(const Block& b) { return to_float(b.d); }
  KQ_INLINE static constexpr float dmin(const Block& b) { return to_float(b.dmin); }
  KQ_INLINE static constexpr void set_d(Block& b, float d, float dmin) {
    b.d = to_half(d);
    b.dmin = to_half(dmin);
  }
};

}  // namespace kquant
