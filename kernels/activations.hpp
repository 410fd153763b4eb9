#pragma once
// Activations to int8: groups of 256 (k-quants) or 32 (block32 formats) consecutive columns share
// one binary32 scale,
//
//     scale = max|x| / 127        code = round(x / scale), ties to even: -127 … 127
//
// and the sums of codes that zero points and mins are multiplied by. A group that holds NaN or Inf
// gets scale NaN and codes 0, so that the outputs of that row become NaN; a group below 127 *
// FLT_MIN is 0. Integer codes are the same on every ISA.

#include <cfloat>

#include "kernels/isa/lanes.hpp"
#include "kernels/table.hpp"
#include "kernels/unpack.hpp"

namespace kquant::kernels {

/// 256 columns of a row of X.
struct QuantizedColumns {
  float scales[kLanes];       ///< one a group, in their order
  std::int16_t sums[kLanes];  ///< of 16 codes each
};

/// Lane g: the largest lane of group g's vectors, of which each group has as many.
template <int kGroups, class Floats>
KQ_INLINE Floats largest_of_groups(Floats (&v)[kLanes]) {
  constexpr int kInGroup = kLanes / kGroups;
  for (int n = kInGroup / 2; n > 0; n /= 2)
    for (int g = 0; g < kGroups; ++g)
      for (int i = g * kInGroup; i < g * kInGroup + n; ++i) v[i] = larger(v[i], v[i + n]);
  for (int g = 0; g < kGroups; ++g) v[g] = v[g * kInGroup];
  // Neighbouring lanes of two vectors, and of the last one with itself.
  for (int left = kGroups, width = kLanes; width > 1; width /= 2) {
    const int half = (left + 1) / 2;
    for (int i = 0; i < half; ++i) {
      const Floats a = v[2 * i], b = v[left > 1 ? 2 * i + 1 : 0];
      v[i] = larger(a.template every_second<0>(b), a.template every_second<1>(b));
    }
    left = half;
  }
  return v[0];
}

/// Lane i: the sum of the lanes of v[i].
template <class Floats>
KQ_INLINE Floats sums_of_lanes(Floats (&v)[kLanes]) {
  unrolled<4>([&]<int kLevel>() __attribute__((always_inline)) {
    unrolled<(kLanes >> kLevel) / 2>([&]<int i>() __attribute__((always_inline)) {
      const Floats a = v[2 * i], b = v[2 * i + 1];
      v[i] = a.template every_second<0>(b) + a.template every_second<1>(b);
    });
  });
  return v[0];
}

/// `place(run)` says where the codes of 32 columns go; kFlip is added to them.
///
/// No sum is taken across the lanes of one vector: each step joins neighbouring lanes of two, until
/// there is one whose lanes are the results.
template <class Isa, int kGroup, std::uint8_t kFlip, class Place>
KQ_INLINE QuantizedColumns quantize_columns(const float* x, const Place& place) {
  using Floats = typename Isa::Floats;
  constexpr int kGroups = kSuper / kGroup, kParts = kSuper / kLanes;
  const Floats zero = Floats::all(0.0f);
  Floats parts[kParts];
  const auto measure = [&]() __attribute__((always_inline)) {
    Floats probe = zero;
    unrolled<kParts>([&]<int i>() __attribute__((always_inline)) {
      parts[i] = magnitude(Isa::load(x + kLanes * i));
      probe = probe + parts[i] * zero;  // NaN once anything is not finite
    });
    return Isa::reduce_add(probe) == 0.0f;
  };
  float finite[kSuper];
  bool bad[kGroups] = {};
  while (!measure()) {  // a second time, once what is not finite is gone
    for (int g = 0; g < kGroups; ++g) {
      for (int i = g * kGroup; i < (g + 1) * kGroup; ++i) bad[g] |= x[i] - x[i] != 0.0f;
      for (int i = g * kGroup; i < (g + 1) * kGroup; ++i) finite[i] = bad[g] ? 0.0f : x[i];
    }
    x = finite;
  }
  Floats scales = largest_of_groups<kGroups>(parts) / Floats::all(127.0f);
  scales = where_greater(Floats::all(FLT_MIN), scales, zero, scales);
  float inverse[kLanes];
  where_greater(scales, zero, Floats::all(1.0f) / scales, zero).store(inverse);

  const Floats magic = Floats::all(kRoundMagic);
  unrolled<kParts>([&]<int i>() __attribute__((always_inline)) {
    const Floats factor = Floats::all(inverse[i * kLanes / kGroup]);
    parts[i] = (Isa::load(x + kLanes * i) * factor + magic) - magic;
    Isa::store_codes(kFlip != 0 ? parts[i] + Floats::all(kFlip) : parts[i],
                     place(i / 2) + i % 2 * kLanes);
  });

  QuantizedColumns out;
  scales.store(out.scales);
  for (int g = 0; g < kGroups; ++g)
    if (bad[g]) out.scales[g] = __builtin_nanf("");
  float sums[kLanes];
  sums_of_lanes(parts).store(sums);
  for (int i = 0; i < kLanes; ++i)
    out.sums[i] = static_cast<std::int16_t>(static_cast<int>(sums[i]));
  return out;
}

/// The same of columns [at, at + 256) of a row of `cols`; zeros follow the last.
template <class Isa, int kGroup, std::uint8_t kFlip, class Place>
KQ_INLINE QuantizedColumns quantize_columns(const float* row, std::size_t at, std::size_t cols,
                                            const Place& place) {
  const float* x = row + at;
  float padded[kSuper];
  if (const std::size_t rest = cols - at; rest < kSuper) [[unlikely]] {
    __builtin_memset(padded, 0, sizeof padded);
    __builtin_memcpy(padded, x, rest * sizeof(float));
    x = padded;
  }
  return quantize_columns<Isa, kGroup, kFlip>(x, place);
}

/// Precondition: cols is a multiple of kGroup; out.padded of 256.
template <class Isa, int kGroup>
void quantize_activations(const float* x, std::size_t x_stride, std::size_t cols, std::size_t first,
                          std::size_t count, const Activations& out) noexcept {
  constexpr bool kPer32 = kGroup == 32;
  constexpr std::uint8_t kFlip = kPer32 ? Isa::kActivationFlip : 0;
  for (std::size_t m = first; m < first + count; ++m)
    for (std::size_t at = 0; at < out.padded; at += kSuper) {
      const std::size_t column = m * out.padded + at;
      const QuantizedColumns q = quantize_columns<Isa, kGroup, kFlip>(
          x + m * x_stride, at, cols, [&](int run) __attribute__((always_inline)) {
            return out.codes + column + 32 * run;
          });
      if constexpr (kPer32) {
        for (std::size_t g = 0; g < kSuper / 32; ++g) {
          out.scales[column / 32 + g] = q.scales[g];
          out.scaled_sums[column / 32 + g] =
              q.scales[g] * static_cast<float>(q.sums[2 * g] + q.sums[2 * g + 1]);
        }
      } else {
        out.scales[column / kSuper] = q.scales[0];
        __builtin_memcpy(out.sums16 + column / 16, q.sums, sizeof q.sums);
      }
    }
}

}  // namespace kquant::kernels
