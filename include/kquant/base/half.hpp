#pragma once
// IEEE 754 binary16 ("F16") and bfloat16 as storage types, with conversions that are exact,
// constexpr and the same on the host and on a GPU. Hardware conversions (F16C, AVX-512 BF16) round
// identically; kernels may use them, a test compares all 65,536 values.
//
// __builtin_bit_cast instead of std::bit_cast: the latter is an inline function, which unoptimised
// builds emit as a weak symbol even from translation units with -m flags (see macros.hpp).

#include <cstdint>

#include "kquant/base/macros.hpp"

namespace kquant {

/// Storage of one binary16 number. A distinct type, so that it is never mistaken for an integer.
struct Half {
  std::uint16_t bits;
};

/// Storage of one bfloat16 number: the upper half of a binary32.
struct BFloat16 {
  std::uint16_t bits;
};

/// Exact. NaN stays NaN (quietened), with its payload.
KQ_INLINE constexpr float to_float(Half h) {
  const std::uint32_t sign = (std::uint32_t{h.bits} & 0x8000u) << 16;
  const std::uint32_t rest = std::uint32_t{h.bits} & 0x7fffu;
  if (rest >= 0x7c00u) {  // Inf, NaN
    const std::uint32_t quiet = rest > 0x7c00u ? 0x00400000u : 0u;
    return __builtin_bit_cast(float, sign | 0x7f800000u | ((rest & 0x3ffu) << 13) | quiet);
  }
  if (rest >= 0x0400u)  // normal: re-bias the exponent from 15 to 127
    return __builtin_bit_cast(float, sign | ((rest << 13) + (112u << 23)));
  // Subnormal or zero: rest * 2^-24 is exact in binary32.
  const float magnitude = static_cast<float>(rest) * 0x1p-24f;
  return __builtin_bit_cast(float, sign | __builtin_bit_cast(std::uint32_t, magnitude));
}

KQ_INLINE constexpr float to_float(BFloat16 b) {
  return __builtin_bit_cast(float, std::uint32_t{b.bits} << 16);
}

/// Rounds to nearest, ties to even; overflows to Inf; NaN becomes a quiet NaN.
KQ_INLINE constexpr Half to_half(float x) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, x);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t a = bits & 0x7fffffffu;
  if (a > 0x7f800000u)  // NaN
    return Half{static_cast<std::uint16_t>(sign | 0x7e00u | ((a >> 13) & 0x3ffu))};
  if (a >= 0x477ff000u)  // rounds to 65536 or more
    return Half{static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (a >= 0x38800000u) {  // normal in binary16
    const std::uint32_t odd = (a >> 13) & 1u;
    return Half{static_cast<std::uint16_t>(sign | ((a - (112u << 23) + 0xfffu + odd) >> 13))};
  }
  if (a < 0x33000000u)  // below half of the smallest subnormal, 2^-25 (the tie is handled below)
    return Half{static_cast<std::uint16_t>(sign)};
  // Subnormal in binary16: shift the 24-bit significand down to units of 2^-24, ties to even.
  const std::uint32_t significand = (a & 0x7fffffu) | 0x800000u;
  const std::uint32_t shift = 126u - (a >> 23);
  const std::uint32_t kept = significand >> shift;
  const std::uint32_t dropped = significand & ((1u << shift) - 1u);
  const std::uint32_t tie = 1u << (shift - 1u);
  const std::uint32_t up = (dropped > tie || (dropped == tie && (kept & 1u))) ? 1u : 0u;
  return Half{static_cast<std::uint16_t>(sign | (kept + up))};
}

/// Rounds to nearest, ties to even; NaN becomes a quiet NaN.
KQ_INLINE constexpr BFloat16 to_bfloat16(float x) {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, x);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return BFloat16{static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return BFloat16{static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace kquant
