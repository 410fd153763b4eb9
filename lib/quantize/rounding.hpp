#pragma once
// Rounding that is the same for every compiler, optimisation level and instruction set.

#include <bit>
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
template <class V>
KQ_INLINE V round_even(V x) {
  const V magic = V::all(12582912.0f);
  return (x + magic) - magic;
}
/// Largest integer not above x, for |x| < 2^22.
template <class V>
KQ_INLINE V round_down(V x) {
  const V nearest = round_even(x);
  return nearest - select(x < nearest, V::all(1), V::zero());
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

}  // namespace kquant::detail
