#pragma once
// A piece of rows to packed blocks on the CPU: search, codes, packing.

#include <cstddef>

#include "block_search.hpp"
#include "encoder.hpp"
#include "kquant/format/all.hpp"
#include "register_lanes.hpp"

namespace kquant::detail {

/// The outcome of a search as blocks.
template <class F, class V>
class FoundBlocks {
 public:
  explicit FoundBlocks(const Found<V>& found) {
    found.scale.store(scale_);
    found.min.store(min_);
    found.d.store(d_);
    found.dmin.store(dmin_);
    found.down.store(down_);
    found.offset.store(offset_);
    found.inverse.store(inverse_);
  }

  /// Of block b < kBlocksAtOnce.
  BlockScales<F> scales(int b) const {
    const int lane = b * kSubs<F>;
    BlockScales<F> scales{};  // no call of a constructor, which is not a lane's
    scales.d = d_[lane];
    scales.dmin = dmin_[lane];
    for (int j = 0; j < kSubs<F>; ++j) {
      scales.words.set_scale(j, static_cast<int>(scale_[lane + j]));
      scales.words.set_min(j, static_cast<int>(min_[lane + j]));
    }
    return scales;
  }

  /// The codes of block b, in the order of the row: lanes are weights here, not sub-blocks. x: its
  /// F::kBlock floats.
  void codes(int b, const float* x, std::int8_t* out) const {
    static_assert(F::kSub % kLanes == 0);
    Found<V> of_sub;
    for (int j = 0; j < kSubs<F>; ++j) {
      const int lane = b * kSubs<F> + j;
      of_sub.down = V::all(down_[lane]);
      of_sub.offset = V::all(offset_[lane]);
      of_sub.inverse = V::all(inverse_[lane]);
      for (int i = j * F::kSub; i < (j + 1) * F::kSub; i += kLanes)
        of_sub.template codes<F>(V::load(x + i)).store(out + i);
    }
  }

 private:
  alignas(64) float scale_[kLanes], min_[kLanes], d_[kLanes], dmin_[kLanes];
  alignas(64) float down_[kLanes], offset_[kLanes], inverse_[kLanes];
};

/// See EncodeRows.
template <class F, class V>
bool encode_rows(const RowsToEncode& in) {
  constexpr std::size_t kAtOnce = kWeightsAtOnce<F>;
  SearchPlan plan = plan_of<F>(in.effort, in.importance != nullptr);
  plan.unbiased = in.unbiased;
  BlockSearch<F, V> search(plan);
  Importances<F, V> importances;
  alignas(64) float padded[kAtOnce], even[kAtOnce];
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
    if (in.importance || col == 0) {
      const float* const given = in.importance ? filled(in.importance + col) : nullptr;
      for (std::size_t i = 0; i < kAtOnce; i += F::kBlock)
        even_out<F>(given ? given + i : nullptr, in.importance_floor, even + i);
      importances.set(even);
    }
    for (std::size_t row = 0; row < in.rows; ++row) {
      const float* x = filled(in.x + row * in.stride + col);
      if (!search.search(x, importances)) return false;
      std::byte* to = in.out + row * in.out_stride + col / F::kBlock * sizeof(typename F::Block);
      const FoundBlocks<F, V> found(search.found());
      const int blocks = static_cast<int>(n / F::kBlock);
      for (int b = 0; b < blocks; ++b, to += sizeof(typename F::Block)) {
        found.codes(b, x + b * F::kBlock, codes);
        const typename F::Block block = pack_block<F>(found.scales(b), codes);
        std::memcpy(to, &block, sizeof block);
      }
    }
  }
  return true;
}

template <int W>
EncodeRows find_encoder(TensorType type) {
  EncodeRows found = nullptr;
  WeightFormats::visit(type, [&]<class F>() { found = &encode_rows<F, Lanes<W>>; });
  return found;
}

}  // namespace kquant::detail
