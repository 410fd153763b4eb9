#pragma once
// F32, F16 and BF16 weights against float activations: 16 partial sums a product, multiply then
// add, one fixed tree at the end. One column is bound by memory, many by 2 operations per 16
// products (half of what fused multiply-add would do: the price of equal results on every ISA).
//
// Registers, AVX-512: 2 rows x 8 columns of sums; per 16 columns of K, 2 loads of weights and 8 of
// activations feed 16 multiplications and additions.

#include "kernels/isa/lanes.hpp"
#include "kernels/table.hpp"
#include "kquant/format/plain.hpp"

namespace kquant::kernels {

/// n < 16 elements, zeros after them.
template <class F, class Isa>
KQ_INLINE typename Isa::Floats load_rest(const typename F::Element* p, std::size_t n) {
  float padded[kLanes];
  for (std::size_t i = 0; i < kLanes; ++i) padded[i] = i < n ? F::value(p[i]) : 0.0f;
  return Isa::Floats::load(padded);
}

/// kRows rows of W from w on, kCount rows of X from `first` on; those past the last are computed as
/// copies of it and not stored.
template <class F, class Isa, int kRows, int kCount>
KQ_INLINE void plain_tile(const Panel& panel, std::size_t n, std::size_t first) {
  using Floats = typename Isa::Floats;
  using Element = typename F::Element;
  const Activations& a = *panel.activations;
  const Element* w[kRows];
  const float* x[kCount];
  Floats acc[kRows][kCount];
  for (int r = 0; r < kRows; ++r)
    w[r] = reinterpret_cast<const Element*>(panel.weights +
                                            (n + static_cast<std::size_t>(r)) * panel.row_bytes);
  unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
    const std::size_t m = first + kAt < a.rows ? first + kAt : a.rows - 1;
    x[kAt] = a.x + m * a.x_stride;
    unrolled<kRows>([&]<int kRow>()
                        __attribute__((always_inline)) { acc[kRow][kAt] = Floats::all(0.0f); });
  });
  const auto step = [&](const auto& load_w, const auto& load_x) __attribute__((always_inline)) {
    Floats weights[kRows];
    unrolled<kRows>([&]<int kRow>()
                        __attribute__((always_inline)) { weights[kRow] = load_w(w[kRow]); });
    unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
      const Floats column = load_x(x[kAt]);
      unrolled<kRows>([&]<int kRow>() __attribute__((always_inline)) {
        acc[kRow][kAt] = acc[kRow][kAt] + weights[kRow] * column;
      });
    });
  };
  std::size_t k = 0;
  for (; k + kLanes <= panel.cols; k += kLanes)
    step(
        [&](const Element* p) __attribute__((always_inline)) { return Isa::load(p + k); },
        [&](const float* p) __attribute__((always_inline)) { return Isa::load(p + k); });
  if (const std::size_t rest = panel.cols - k; rest > 0)
    step(
        [&](const Element* p)
            __attribute__((always_inline)) { return load_rest<F, Isa>(p + k, rest); },
        [&](const float* p)
            __attribute__((always_inline)) { return load_rest<F32, Isa>(p + k, rest); });
  unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
    if (first + kAt < a.rows)
      unrolled<kRows>([&]<int kRow>() __attribute__((always_inline)) {
        panel.y[(first + kAt) * panel.y_stride + n + kRow] = Isa::reduce_add(acc[kRow][kAt]);
      });
  });
}

template <class F, class Isa>
void multiply_plain(const Panel& panel) noexcept {
  constexpr std::size_t kTogether = Isa::kColumns >= 8 ? 2 : 1;
  constexpr std::size_t kRows = 16;  // rows of W that a tile of columns meets while it is in L2
  const std::size_t n_columns = panel.activations->rows;
  for (std::size_t n0 = 0; n0 < panel.count; n0 += kRows) {
    const std::size_t end = n0 + kRows < panel.count ? n0 + kRows : panel.count;
    for (std::size_t first = 0; first < n_columns; first += Isa::kColumns) {
      std::size_t n = n0;
      if (n_columns - first > 1)
        for (; n + kTogether <= end; n += kTogether)
          plain_tile<F, Isa, kTogether, Isa::kColumns>(panel, n, first);
      for (; n < end; ++n) {
        if (n_columns - first > 1)
          plain_tile<F, Isa, 1, Isa::kColumns>(panel, n, first);
        else
          plain_tile<F, Isa, 1, 1>(panel, n, first);
      }
    }
  }
}

}  // namespace kquant::kernels
