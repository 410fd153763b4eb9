#pragma once
// Rows of W as they lie in a file against a few rows of X: each block is unpacked in registers and
// meets all of them at once; the weights are read once, from one end to the other, which is what
// memory and the processor's prefetcher like best.
//
// For more than kFewRows rows of X it pays to pack weights first, a few panels at a time
// (lib/matmul/matmul.cpp).

#include "kernels/activations.hpp"
#include "kernels/dot.hpp"

namespace kquant::kernels {

inline constexpr std::size_t kPrefetchBytes = 4096;  ///< ahead of the row being read, into L2

template <class F>
inline constexpr int kActivationGroup = kIsBlock32<F> ? 32 : 256;

template <class F, class Isa>
struct MappedRow {
  const std::uint8_t* p;
  std::size_t n_super;  ///< whole super-blocks
  std::size_t rest;     ///< bytes after them (block32 formats)

  KQ_INLINE static MappedRow of(const std::byte* row, std::size_t cols) {
    const std::size_t n = cols / kSuper;
    return {reinterpret_cast<const std::uint8_t*>(row), n,
            (cols - n * kSuper) / F::kBlock * sizeof(typename F::Block)};
  }
  KQ_INLINE std::size_t size() const { return n_super + (rest > 0 ? 1 : 0); }

  KQ_INLINE Unpacked<F, Isa> operator[](std::size_t super) const {
    const std::uint8_t* at = p + super * kSuperBytes<F>;
    for (int line = 0; line < kSuperBytes<F>; line += 64)
      __builtin_prefetch(at + kPrefetchBytes + line, 0, 2);
    if constexpr (kIsBlock32<F>) {
      if (super == n_super) {  // blocks of zeros complete the last super-block
        std::uint8_t padded[kSuperBytes<F>];
        __builtin_memset(padded, 0, sizeof padded);
        __builtin_memcpy(padded, at, rest);
        return Unpacked<F, Isa>::of(padded);
      }
    }
    return Unpacked<F, Isa>::of(at);
  }
};

/// One row of W times kCount rows of X from `first` on; those past the last are computed as copies
/// of it and not stored.
template <class F, class Isa, int kCount>
KQ_INLINE void row_times_columns(const MappedRow<F, Isa>& row, const Activations& a,
                                 std::size_t first, float* y, std::size_t y_stride) {
  using Floats = typename Isa::Floats;
  Column columns[kCount];
  Floats acc[kCount];
  unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
    const std::size_t m = first + kAt < a.rows ? first + kAt : a.rows - 1;
    columns[kAt] = Column::of<kActivationGroup<F>>(a, m);
    acc[kAt] = Floats::all(0.0f);
  });
  for (std::size_t super = 0; super < row.size(); ++super) {
    const Unpacked<F, Isa> block = row[super];
    unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
      block.multiply(columns[kAt], super, acc[kAt]);
    });
  }
  unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
    if (first + kAt < a.rows) y[(first + kAt) * y_stride] = Isa::reduce_add(acc[kAt]);
  });
}

/// A tile of kColumns columns; the last one as small as it can be.
template <class F, class Isa>
KQ_INLINE void row_times_tile(const MappedRow<F, Isa>& row, const Activations& a, std::size_t first,
                              float* y, std::size_t y_stride) {
  const std::size_t left = a.rows - first;
  if constexpr (Isa::kColumns >= 8)
    if (left > 4) return row_times_columns<F, Isa, 8>(row, a, first, y, y_stride);
  if constexpr (Isa::kColumns >= 4)
    if (left > 2) return row_times_columns<F, Isa, 4>(row, a, first, y, y_stride);
  if constexpr (Isa::kColumns >= 2)
    if (left > 1) return row_times_columns<F, Isa, 2>(row, a, first, y, y_stride);
  return row_times_columns<F, Isa, 1>(row, a, first, y, y_stride);
}

template <class F, class Isa>
void multiply(const Panel& panel) noexcept {
  const Activations& a = *panel.activations;
  for (std::size_t n = 0; n < panel.count; ++n) {
    const auto row = MappedRow<F, Isa>::of(panel.weights + n * panel.row_bytes, panel.cols);
    for (std::size_t first = 0; first < a.rows; first += Isa::kColumns)
      row_times_tile<F, Isa>(row, a, first, panel.y + n, panel.y_stride);
  }
}

}  // namespace kquant::kernels
