#pragma once
// Q4_K: 4.5 bits per weight. 256 weights in 8 sub-blocks of 32, each with a 6-bit scale and min.
//
//     byte 0      2      4             16                                      144
//          | d    | dmin | sc[12]      | lo[128]                               |
//
//     lo: run g (32 weights) is one nibble of 32 bytes      sc: 8 scales s, 8 mins m, 6 bits each
//         bytes  0- 31: run 0 low, run 1 high nibble           bytes 0- 3: s4..7 high 2 | s0..3
//         bytes 32- 63: run 2 low, run 3 high nibble           bytes 4- 7: m4..7 high 2 | m0..3
//         ...                                                  bytes 8-11: m4..7 low 4  | s4..7 low
//         4
//
//     value = (d * s) * q - (dmin * m),   0 <= q <= 15

#include "kquant/format/run.hpp"
#include "kquant/format/scales_6bit.hpp"

namespace kquant {

struct Q4_K {
  struct Block {
    Half d;
    Half dmin;
    std::uint8_t sc[12];
    std::uint8_t lo[128];
  };
  static_assert(sizeof(Block) == 144);

  static constexpr TensorType type = TensorType::Q4_K;
  static constexpr std::string_view name = "Q4_K";
  static constexpr int kBlock = 256, kRun = 32, kSub = 32, kBits = 4, kZero = 0;
  static constexpr bool kHasMin = true, kSigned = false;

  KQ_INLINE static constexpr Run run(int g) {
    return {.lo_at = 16 + (g / 2) * 32, .lo_shift = 4 * (g % 2), .lo_mask = 15};
  }
  template <class Word>
  KQ_INLINE static constexpr ScaleWord<Word> unpack_scale_word(const Word* sc, int w) {
    return unpack_scales_and_mins_6bit(sc, w);
  }
  template <class Word>
  KQ_INLINE static constexpr ScaleWords<8, Word> unpack_scale_words(const Word* sc) {
    return unpack_every_scale_word<Q4_K>(sc);
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
