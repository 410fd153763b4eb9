#pragma once
// Q5_1: 6 bits per weight. 32 weights, one scale and one min.
//
//     byte 0      2      4           8                 24
//          | d    | m    | hi[4]     | lo[16]          |    planes as in Q5_0 (see q5_0.hpp)
//
//     value = d * q + m,   0 <= q <= 31

#include "kquant/format/run.hpp"

namespace kquant {

struct Q5_1 {
  struct Block {
    Half d;
    Half m;
    std::uint8_t hi[4];
    std::uint8_t lo[16];
  };
  static_assert(sizeof(Block) == 24);

  static constexpr TensorType type = TensorType::Q5_1;
  static constexpr std::string_view name = "Q5_1";
  static constexpr int kBlock = 32, kRun = 16, kSub = 32, kBits = 5, kZero = 0;
  static constexpr bool kHasMin = true, kSigned = false;

  KQ_INLINE static constexpr Run run(int g) {
    return {.lo_at = 8,
            .lo_shift = 4 * g,
            .lo_mask = 15,
            .hi_at = 4 + 2 * g,
            .hi_shift = 0,
            .hi_mask = 1,
            .hi_up = 4,
            .hi_bit_plane = true};
  }
  // One scale a block, and an *added* min m: in the common form  d * 1 * q - m * (-1),  which is
  // exact.
  KQ_INLINE static constexpr ScaleWords<1> unpack_scales(const Block&) {
    return {.scale = {1}, .min = {0xff}};
  }
  KQ_INLINE static constexpr void pack_scales(const ScaleWords<1>&, Block&) {}
  KQ_INLINE static constexpr float d(const Block& b) { return to_float(b.d); }
  KQ_INLINE static constexpr float dmin(const Block& b) { return to_float(b.m); }
  KQ_INLINE static constexpr void set_d(Block& b, float d, float m) {
    b.d = to_half(d);
    b.m = to_half(m);
  }
};

}  // namespace kquant
