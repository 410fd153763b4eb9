#pragma once
// Q8_K: 9.125 bits per weight, the activation format of the k-quants: 256 signed bytes under one
// float scale, with the sums of each 16 codes, which mins and zero points are multiplied by.
// Not a file recipe.
//
//     byte 0      4                                        260                 292
//          | d    | q[256]                                 | sums[16] (int16)  |
//
//     value = d * q,   -128 <= q <= 127

#include "kquant/format/run.hpp"

namespace kquant {

struct Q8_K {
  struct Block {
    float d;
    std::uint8_t q[256];
    std::int16_t sums[16];
  };
  static_assert(sizeof(Block) == 292);

  static constexpr TensorType type = TensorType::Q8_K;
  static constexpr std::string_view name = "Q8_K";
  static constexpr int kBlock = 256, kRun = 32, kSub = 256, kBits = 8, kZero = 0;
  static constexpr bool kHasMin = false, kSigned = true;

  KQ_INLINE static constexpr Run run(int g) {
    return {.lo_at = 4 + 32 * g, .lo_shift = 0, .lo_mask = 255};
  }
  KQ_INLINE static constexpr ScaleWords<1> unpack_scales(const Block&) {
    return {.scale = {1}, .min = {0}};
  }
  KQ_INLINE static constexpr void pack_scales(const ScaleWords<1>&, Block&) {}
  KQ_INLINE static constexpr float d(const Block& b) { return b.d; }
  KQ_INLINE static constexpr float dmin(const Block&) { return 0.0f; }
  KQ_INLINE static constexpr void set_d(Block& b, float d, float) { b.d = d; }
};

}  // namespace kquant
