#pragma once
// F32, F16 and BF16 weights against float activations: 16 partial sums a product, multiply then
// add, one fixed tree at the end. One column is bound by memory, many by 2 operations per 16
// products (half of what fused multiply-add would do: the price of equal results on every ISA).

#include "kernels/isa/lanes.hpp"
#include "kernels/table.hpp"
#include "kquant/format/plain.hpp"

namespace kquant::kernels {

template <class F, class Isa, int kCount>
KQ_INLINE void plain_row_times_columns(const typename F::Element* w, std::size_t cols,
                                       const Activations& a, std::size_t first, float* y,
                                       std::size_t y_stride) {
  using Floats = typename Isa::Floats;
  const float* x[kCount];
  Floats acc[kCount];
  unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
    const std::size_t m = first + kAt < a.rows ? first + kAt : a.rows - 1;
    x[kAt] = a.x + m * a.x_stride;
    acc[kAt] = Floats::all(0.0f);
  });
  std::size_t k = 0;
  for (; k + kLanes <= cols; k += kLanes) {
    const Floats weights = Isa::load(w + k);
    unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
      acc[kAt] = acc[kAt] + weights * Isa::load(x[kAt] + k);
    });
  }
  if (k < cols) {
    float padded[kLanes];
    for (int i = 0; i < kLanes; ++i)
      padded[i] = k + static_cast<std::size_t>(i) < cols
                      ? F::value(w[k + static_cast<std::size_t>(i)])
                      : 0.0f;
    const Floats weights = Floats::load(padded);
    unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
      acc[kAt] = acc[kAt] + weights * Floats::load(x[kAt] + k, cols - k, 0.0f);
    });
  }
  unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
    if (first + kAt < a.rows) y[(first + kAt) * y_stride] = Isa::reduce_add(acc[kAt]);
  });
}

template <class F, class Isa>
void multiply_plain(const Panel& panel) noexcept {
  constexpr std::size_t kRows = 16;  // rows of W that a tile of columns meets while it is in L2
  const Activations& a = *panel.activations;
  for (std::size_t n0 = 0; n0 < panel.count; n0 += kRows) {
    const std::size_t end = n0 + kRows < panel.count ? n0 + kRows : panel.count;
    for (std::size_t first = 0; first < a.rows; first += Isa::kColumns)
      for (std::size_t n = n0; n < end; ++n) {
        const auto* w =
            reinterpret_cast<const typename F::Element*>(panel.weights + n * panel.row_bytes);
        if (a.rows - first > 1)
          plain_row_times_columns<F, Isa, Isa::kColumns>(w, panel.cols, a, first, panel.y + n,
                                                         panel.y_stride);
        else
          plain_row_times_columns<F, Isa, 1>(w, panel.cols, a, first, panel.y + n, panel.y_stride);
      }
  }
}

template <class Isa>
std::size_t no_scratch(std::size_t) noexcept {
  return 0;
}

}  // namespace kquant::kernels
