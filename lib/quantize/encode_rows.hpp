#pragma once
// A piece of rows to packed blocks: search, codes, packing.

#include <cstddef>

#include "block_search.hpp"
#include "encoder.hpp"
#include "kquant/format/all.hpp"

namespace kquant::detail {

/// See EncodeRows.
template <class F, int W>
bool encode_rows(const RowsToEncode& in) {
  constexpr std::size_t kAtOnce = kWeightsAtOnce<F>;
  BlockSearch<F, W> search(in.effort, in.importance != nullptr);
  Importances<F, W> importances;
  alignas(64) float padded[kAtOnce];
  std::int8_t codes[F::kBlock];
  // Columns outside, rows inside: the importances of a column are prepared once.
  for (std::size_t col = 0; col < in.cols; col += kAtOnce) {
    const std::size_t n = in.cols - col < kAtOnce ? in.cols - col : kAtOnce;
    // The last blocks of a row may not fill the lanes: zeros do.
    const auto filled = [&](const float* p) {
      if (n == kAtOnce) return p;
      std::memset(padded, 0, sizeof padded);
      std::memcpy(padded, p, n * sizeof *p);
      return static_cast<const float*>(padded);
    };
    if (in.importance || col == 0)
      importances.set(in.importance ? filled(in.importance + col) : nullptr, in.importance_floor);
    for (std::size_t row = 0; row < in.rows; ++row) {
      const float* x = filled(in.x + row * in.stride + col);
      if (!search.search(x, importances)) return false;
      std::byte* to = in.out + row * in.out_stride + col / F::kBlock * sizeof(typename F::Block);
      const int blocks = static_cast<int>(n / F::kBlock);
      for (int b = 0; b < blocks; ++b, to += sizeof(typename F::Block)) {
        search.codes(b, x + b * F::kBlock, codes);
        const typename F::Block block = pack_block<F>(search.scales(b), codes);
        std::memcpy(to, &block, sizeof block);
      }
    }
  }
  return true;
}

template <int W>
EncodeRows find_encoder(TensorType type) {
  EncodeRows found = nullptr;
  WeightFormats::visit(type, [&]<class F>() { found = &encode_rows<F, W>; });
  return found;
}

}  // namespace kquant::detail
