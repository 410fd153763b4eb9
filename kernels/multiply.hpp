#pragma once
// A panel of rows of W against all rows of X.
//
// Few columns (decoding): each block is unpacked in registers and meets all columns at once; the
// weights are read once, prefetched ahead: the limit is memory bandwidth.
// Many columns (prefill): a few rows are unpacked to scratch memory in L2 and meet tiles of
// kColumns columns, whose codes stay in L1: the limit is arithmetic (see dot.hpp).

#include "kernels/activations.hpp"
#include "kernels/dot.hpp"

namespace kquant::kernels {

inline constexpr std::size_t kPrefetchBytes = 4096;       ///< ahead of the row being read
inline constexpr std::size_t kScratchBytes = 256 * 1024;  ///< of unpacked rows, a thread
inline constexpr std::size_t kScratchRows = 16;

template <class F>
inline constexpr int kActivationGroup = kIsBlock32<F> ? 32 : 256;

/// Packed rows are unpacked on the way.
template <class F, class Isa>
struct PackedRow {
  const std::uint8_t* p;
  std::size_t n_super;  ///< whole super-blocks
  std::size_t rest;     ///< bytes after them (block32 formats)

  KQ_INLINE static PackedRow of(const std::byte* row, std::size_t cols) {
    const std::size_t n = cols / kSuper;
    return {reinterpret_cast<const std::uint8_t*>(row), n,
            (cols - n * kSuper) / F::kBlock * sizeof(typename F::Block)};
  }
  KQ_INLINE std::size_t size() const { return n_super + (rest > 0 ? 1 : 0); }

  KQ_INLINE Unpacked<F, Isa> operator[](std::size_t super) const {
    const std::uint8_t* at = p + super * kSuperBytes<F>;
    for (int line = 0; line < kSuperBytes<F>; line += 64)
      __builtin_prefetch(at + kPrefetchBytes + line);
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

template <class F, class Isa>
struct UnpackedRow {
  const Unpacked<F, Isa>* blocks;
  std::size_t n_super;
  KQ_INLINE std::size_t size() const { return n_super; }
  KQ_INLINE const Unpacked<F, Isa>& operator[](std::size_t super) const { return blocks[super]; }
};

/// One row of W times kCount rows of X from `first` on; those past the last are computed as copies
/// of it and not stored.
template <class F, class Isa, int kCount, class Row>
KQ_INLINE void row_times_columns(const Row& row, const Activations& a, std::size_t first, float* y,
                                 std::size_t y_stride) {
  using Floats = typename Isa::Floats;
  Column columns[kCount];
  Floats acc[kCount];
  unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
    const std::size_t m = first + kAt < a.rows ? first + kAt : a.rows - 1;
    columns[kAt] = Column::of<kActivationGroup<F>>(a, m);
    acc[kAt] = Floats::all(0.0f);
  });
  for (std::size_t super = 0; super < row.size(); ++super) {
    const Unpacked<F, Isa>& block = row[super];
    unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
      block.multiply(columns[kAt], super, acc[kAt]);
    });
  }
  unrolled<kCount>([&]<int kAt>() __attribute__((always_inline)) {
    if (first + kAt < a.rows) y[(first + kAt) * y_stride] = Isa::reduce_add(acc[kAt]);
  });
}

/// A tile of kColumns columns; the last one as small as it can be.
template <class F, class Isa, class Row>
KQ_INLINE void row_times_tile(const Row& row, const Activations& a, std::size_t first, float* y,
                              std::size_t y_stride) {
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
std::size_t scratch_rows(std::size_t n_super) {
  const std::size_t fit = kScratchBytes / (n_super * sizeof(Unpacked<F, Isa>) + 1);
  return fit < 1 ? 1 : fit > kScratchRows ? kScratchRows : fit;
}

template <class F, class Isa>
std::size_t scratch_bytes(std::size_t cols) noexcept {
  const std::size_t n_super = (cols + kSuper - 1) / kSuper;
  return scratch_rows<F, Isa>(n_super) * n_super * sizeof(Unpacked<F, Isa>);
}

template <class F, class Isa>
void multiply_packed(const Panel& panel, const Activations& a) noexcept {
  for (std::size_t n = 0; n < panel.count; ++n) {
    const auto row = PackedRow<F, Isa>::of(panel.weights + n * panel.row_bytes, panel.cols);
    row_times_tile<F, Isa>(row, a, 0, panel.y + n, panel.y_stride);
  }
}

template <class F, class Isa>
void multiply_unpacked(const Panel& panel, const Activations& a) noexcept {
  auto* blocks = reinterpret_cast<Unpacked<F, Isa>*>(panel.scratch);
  const std::size_t n_super = (panel.cols + kSuper - 1) / kSuper;
  const std::size_t at_once = scratch_rows<F, Isa>(n_super);
  for (std::size_t n0 = 0; n0 < panel.count; n0 += at_once) {
    const std::size_t n_rows = panel.count - n0 < at_once ? panel.count - n0 : at_once;
    for (std::size_t r = 0; r < n_rows; ++r) {
      const auto row =
          PackedRow<F, Isa>::of(panel.weights + (n0 + r) * panel.row_bytes, panel.cols);
      for (std::size_t s = 0; s < n_super; ++s) blocks[r * n_super + s] = row[s];
    }
    for (std::size_t first = 0; first < a.rows; first += Isa::kColumns)
      for (std::size_t r = 0; r < n_rows; ++r)
        row_times_tile<F, Isa>(UnpackedRow<F, Isa>{blocks + r * n_super, n_super}, a, first,
                               panel.y + n0 + r, panel.y_stride);
  }
}

template <class F, class Isa>
void multiply(const Panel& panel) noexcept {
  const Activations& a = *panel.activations;
  if (a.rows <= static_cast<std::size_t>(Isa::kColumns))
    multiply_packed<F, Isa>(panel, a);
  else
    multiply_unpacked<F, Isa>(panel, a);
}

}  // namespace kquant::kernels
