#pragma once
// Q8_0: 8.5 bits per weight. 32 signed bytes, one scale. Also an activation format.
//
//     byte 0      2                                34
//          | d    | q[32]                          |
//
//     value = d * q,   -128 <= q <= 127

#include "kquant/format/run.hpp"

namespace kquant {

struct Q8_0 {
  struct Block {
    Half d;
    std::uint8_t q[32];
  };
  static_assert(sizeof(Block) == 34);

  static constexpr TensorType type = TensorType::Q8_0;
  static constexpr std::string_view name = "Q8_0";
  static constexpr int kBlock = 32, kRun = 32, kSub = 32, kBits = 8, kZero = 0;
  static constexpr bool kHasMin = false, kSigned = true;

  KQ_INLINE static constexpr Run run(int) { return {.lo_at = 2, .lo_shift = 0, .lo_mask = 255}; }
  KQ_INLINE static constexpr ScaleWords<1> unpack_scales(const Block&) {
    return {.scale = {1}, .min = {0}};
  }
  KQ_INLINE static constexpr void pack_scales(const ScaleWords<1>&, Block&) {}
  KQ_INLINE static constexpr float d(const Block& b) { return to_float(b.d); }
  KQ_INLINE static constexpr float dmin(const Block&) { return 0.0f; }
  KQ_INLINE static constexpr void set_d(Block& b, float d, float) { b.d = to_half(d); }
};

}  // namespace kquant
