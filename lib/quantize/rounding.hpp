#pragma once
// Rounding that is the same for every compiler, optimisation level and instruction set.

#include <bit>
#include <cmath>
#include <cstdint>

#include "kquant/base/half.hpp"
#include "lanes.hpp"

namespace kquant::detail {

/// Largest finite binary16.
inline constexpr float kHalfMax = 65504.0f;

/// Nearest integer, ties to even, for |x| < 2^22: at 1.5 * 2^23 the last bit of a float is worth 1,
/// so that adding it rounds, in the one rounding mode every machine starts with.
KQ_INLINE constexpr float round_even(float x) {
  constexpr float kMagic = 12582912.0f;
  return (x + kMagic) - kMagic;
}
KQ_INLINE Lanes round_even(Lanes x) {
  const Lanes magic = Lanes::all(12582912.0f);
  return (x + magic) - magic;
}

/// Nearest binary16, but never an infinity: values beyond the range become the largest finite one.
KQ_INLINE constexpr float nearest_half(float x) {
  const float clipped = x > kHalfMax ? kHalfMax : x < -kHalfMax ? -kHalfMax : x;
  return to_float(to_half(clipped));
}

/// The finite binary16 that many places above x in magnitude (below: steps < 0); x is one itself.
KQ_INLINE constexpr float half_beside(float x, int steps) {
  const Half h = to_half(x);
  const int magnitude = (h.bits & 0x7fff) + steps;
  const int kept = magnitude < 0 ? 0 : magnitude > 0x7bff ? 0x7bff : magnitude;
  return to_float(Half{static_cast<std::uint16_t>((h.bits & 0x8000) | kept)});
}

/// 2^e for -126 <= e <= 127.
KQ_INLINE constexpr float power_of_two(int e) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(e + 127) << 23);
}

/// Floor of the base-2 logarithm of x > 0; -127 for subnormal numbers.
KQ_INLINE constexpr int exponent_of(float x) {
  return static_cast<int>((std::bit_cast<std::uint32_t>(x) >> 23) & 0xffu) - 127;
}

}  // namespace kquant::detail
