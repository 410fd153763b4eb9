#pragma once
// What integers a format can store, worked out from its description at compile time.

#include "kquant/format/run.hpp"

namespace kquant::detail {

struct Range {
  int low, high;
};

/// Of q - kZero, the code as it is multiplied. Signed formats leave -128 out: its negative is not
/// an int8, and dot products that multiply by a sign would get it wrong.
template <class F>
inline constexpr Range kCodes =
    F::kSigned ? Range{-127, 127} : Range{-F::kZero, (1 << F::kBits) - 1 - F::kZero};

template <class F>
constexpr Range storable(bool of_min) {
  Range range{1, 0};
  for (int v = -128; v < 128; ++v) {
    typename F::Block block{};
    ScaleWords<kSubs<F>> words{};
    of_min ? words.set_min(0, v) : words.set_scale(0, v);
    F::pack_scales(words, block);
    const auto back = F::unpack_scales(block);
    if ((of_min ? back.min_at(0) : back.scale_at(0)) != v) continue;
    if (range.low > range.high) range.low = v;
    range.high = v;
  }
  return range;
}

/// Sub-block scales and mins that survive packing: 0..63 for Q4_K, -32..31 for Q3_K, just 1 for
/// Q4_0.
template <class F>
inline constexpr Range kScales = storable<F>(false);
template <class F>
inline constexpr Range kMins = storable<F>(true);

/// No sub-block scales: d itself is the scale (and dmin the min), of either sign.
template <class F>
inline constexpr bool kDirectScale = kScales<F>.low == kScales<F>.high;

}  // namespace kquant::detail
