#pragma once
// THE list of formats. Kernels, quantizers, CUDA instantiations, tests and benchmarks are generated
// from it; a format that is added here is everywhere.

#include "kquant/format/plain.hpp"
#include "kquant/format/q2_k.hpp"
#include "kquant/format/q3_k.hpp"
#include "kquant/format/q4_0.hpp"
#include "kquant/format/q4_1.hpp"
#include "kquant/format/q4_k.hpp"
#include "kquant/format/q5_0.hpp"
#include "kquant/format/q5_1.hpp"
#include "kquant/format/q5_k.hpp"
#include "kquant/format/q6_k.hpp"
#include "kquant/format/q8_0.hpp"
#include "kquant/format/q8_1.hpp"
#include "kquant/format/q8_k.hpp"

namespace kquant {

template <class... Fs>
struct FormatList {
  static constexpr int kSize = sizeof...(Fs);

  /// Calls f.operator()<F>() for every format F of the list, in order.
  template <class Fn>
  static constexpr void for_each(Fn&& fn) {
    (fn.template operator()<Fs>(), ...);
  }

  /// Calls f.operator()<F>() for the format with this type; false where the list has none.
  template <class Fn>
  static constexpr bool visit(TensorType type, Fn&& fn) {
    return ((Fs::type == type ? (fn.template operator()<Fs>(), true) : false) || ...);
  }
};

/// What a weight matrix can be stored in, besides the plain types.
using WeightFormats = FormatList<Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1>;

/// Block formats that exist for activations only.
using ActivationFormats = FormatList<Q8_1, Q8_K>;

using PlainFormats = FormatList<F32, F16, BF16>;

namespace detail {
template <class... Fs>
constexpr bool all_block_formats(FormatList<Fs...>) {
  return (BlockFormat<Fs> && ...);
}
template <class... Fs>
constexpr bool all_plain_formats(FormatList<Fs...>) {
  return (PlainFormat<Fs> && ...);
}
static_assert(all_block_formats(WeightFormats{}) && all_block_formats(ActivationFormats{}));
static_assert(all_plain_formats(PlainFormats{}));
}  // namespace detail

}  // namespace kquant
