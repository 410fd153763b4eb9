#pragma once
// Blocks of activations: rounded plainly, because they are made anew at every step of a model.

#include <cmath>
#include <concepts>

#include "kquant/format/run.hpp"
#include "ranges.hpp"
#include "rounding.hpp"

namespace kquant::detail {

/// Formats that carry sums of their codes are for activations.
template <class F>
concept ActivationFormat = requires(typename F::Block b) {
  b.sums;
}
|| requires(typename F::Block b) {
  b.s;
};

/// d = max |x| / 127, codes to the nearest, sums beside them. x: F::kBlock finite floats.
template <ActivationFormat F>
typename F::Block encode_activations(const float* x) {
  constexpr float kTop = static_cast<float>(kCodes<F>.high);
  typename F::Block block{};
  float largest = 0;
  for (int i = 0; i < F::kBlock; ++i) {
    const float a = std::fabs(x[i]);
    largest = a > largest ? a : largest;
  }
  F::set_d(block,
           std::same_as<decltype(block.d), Half> ? nearest_half(largest / kTop) : largest / kTop,
           0);
  const float d = F::d(block);
  int sum = 0;
  for (int g = 0; g < kRuns<F>; ++g)
    for (int i = 0; i < F::kRun; ++i) {
      const int weight = g * F::kRun + i;
      const float c = d > 0 ? x[weight] / d : 0.0f;
      const int q = static_cast<int>(round_even(c > kTop ? kTop : c < -kTop ? -kTop : c));
      put_code<F>(bytes_of<F>(block), g, i, q);
      sum += q;
      if constexpr (requires { block.sums; })
        block.sums[weight / 16] = static_cast<std::int16_t>(block.sums[weight / 16] + q);
    }
  if constexpr (requires { block.s; }) block.s = to_half(nearest_half(d * static_cast<float>(sum)));
  return block;
}

}  // namespace kquant::detail
