#pragma once
// Q8_1: 9 bits per weight, an activation format: Q8_0 and s = d * sum(q), which a dot product with
// a format that has mins needs. Not a file recipe.
//
//     byte 0      2      4                                36
//          | d    | s    | q[32]                          |
//
//     value = d * q,   -128 <= q <= 127

#include "kquant/format/run.hpp"

namespace kquant {

struct Q8_1 {
  struct Block {
    Half d;
    Half s;
    std::uint8_t q[32];
  };
  static_assert(sizeof(Block) == 36);

  static constexpr TensorType type = TensorType::Q8_1;
  static constexpr std::string_view name = "Q8_1";
  static constexpr int kBlock = 32, kRun = 32, kSub = 32, kBits = 8, kZero = 0;
  static constexpr bool kHasMin = false, kSigned = true;

  KQ_INLINE static constexpr Run run(int) { return {.lo_at = 4, .lo_shift = 0, .lo_mask = 255}; }
  KQ_INLINE static constexpr ScaleWords<1> unpack_scales(const Block&) {
    return {.scale = {1}, .min = {0}};
  }
  KQ_INLINE static constexpr void pack_scales(const ScaleWords<1>&, Block&) {}
  KQ_INLINE static constexpr float d(const Block& b) { return to_float(b.d); }
  KQ_INLINE static constexpr float dmin(const Block&) { return 0.0f; }
  KQ_INLINE static constexpr void set_d(Block& b, float d, float) { b.d = to_half(d); }
};

}  // namespace kquant
