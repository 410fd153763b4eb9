#pragma once
// Q5_0: 5.5 bits per weight. 32 weights, one scale.
//
//     byte 0      2           6                 22
//          | d    | hi[4]     | lo[16]          |    lo byte i: weight i in the low, 16 + i in the
//          high nibble
//                                                    hi: bit i (little-endian) is the fifth bit of
//                                                    weight i
//
//     value = d * (q - 16),   0 <= q <= 31

#include "kquant/format/run.hpp"

namespace kquant {

struct Q5_0 {
  struct Block {
    Half d;
    std::uint8_t hi[4];
    std::uint8_t lo[16];
  };
  static_assert(sizeof(Block) == 22);

  static constexpr TensorType type = TensorType::Q5_0;
  static constexpr std::string_view name = "Q5_0";
  static constexpr int kBlock = 32, kRun = 16, kSub = 32, kBits = 5, kZero = 16;
  static constexpr bool kHasMin = false, kSigned = false;

  KQ_INLINE static constexpr Run run(int g) {
    return {.lo_at = 6,
            .lo_shift = 4 * g,
            .lo_mask = 15,
            .hi_at = 2 + 2 * g,
            .hi_shift = 0,
            .hi_mask = 1,
            .hi_up = 4,
            .hi_bit_plane = true};
  }
  KQ_INLINE static constexpr ScaleWords<1> unpack_scales(const Block&) {
    return {.scale = {1}, .min = {0}};
  }
  KQ_INLINE static constexpr void pack_scales(const ScaleWords<1>&, Block&) {}
  KQ_INLINE static constexpr float d(const Block& b) { return to_float(b.d); }
  KQ_INLINE static constexpr float dmin(const Block&) { return 0.0f; }
  KQ_INLINE static constexpr void set_d(Block& b, float d, float) { b.d = to_half(d); }
};

}  // namespace kquant
