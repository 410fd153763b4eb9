#pragma once
// Q4_0: 4.5 bits per weight. 32 weights, one scale.
//
//     byte 0      2                 18
//          | d    | lo[16]          |      lo byte i: weight i in the low, weight 16 + i in the
//          high nibble
//
//     value = d * (q - 8),   0 <= q <= 15

#include "kquant/format/run.hpp"

namespace kquant {

struct Q4_0 {
  struct Block {
    Half d;
    std::uint8_t lo[16];
  };
  static_assert(sizeof(Block) == 18);

  static constexpr TensorType type = TensorType::Q4_0;
  static constexpr std::string_view name = "Q4_0";
  static constexpr int kBlock = 32, kRun = 16, kSub = 32, kBits = 4, kZero = 8;
  static constexpr bool kHasMin = false, kSigned = false;

  KQ_INLINE static constexpr Run run(int g) {
    return {.lo_at = 2, .lo_shift = 4 * g, .lo_mask = 15};
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
