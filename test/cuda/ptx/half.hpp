#pragma once
// binary16 and bfloat16 by way of binary32 and binary64.

#include <bit>
#include <cmath>

#include "kquant/base/half.hpp"
#include "program.hpp"

namespace kquant::ptx {

/// By a table: products of matrices ask for nothing else.
inline float half_to_float(u32 bits) {
  static const std::vector<float> values = [] {
    std::vector<float> all(1 << 16);
    for (u32 i = 0; i < all.size(); ++i) all[i] = to_float(Half{static_cast<u16>(i)});
    return all;
  }();
  return values[bits];
}
inline u16 float_to_half(float x) {
  return to_half(x).bits;
}
/// Rounded once: what binary32 has no room for leaves its last bit odd.
inline u16 double_to_half(double x) {
  float f = static_cast<float>(x);
  if (std::isfinite(f) && static_cast<double>(f) != x) {
    u32 bits = std::bit_cast<u32>(f);
    if (std::fabs(static_cast<double>(f)) > std::fabs(x)) --bits;
    f = std::bit_cast<float>(bits | 1);
  }
  return float_to_half(f);
}
inline u16 float_to_bfloat(float x) {
  return std::isnan(x) ? u16{0x7fff} : to_bfloat16(x).bits;
}

}  // namespace kquant::ptx
