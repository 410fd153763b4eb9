#pragma once
// Rows of floats to packed blocks: the CPU's search (lib/quantize/block_search.hpp), a sub-block a
// thread, sixteen threads what a CPU does at once.
//
//     limit       arithmetic: hundreds of operations a weight and more, 4 bytes read
//     registers   100 … 254: a sub-block's weights x, importances w and w x stay in them
//     shared      packed blocks, and codes on their way from sub-blocks' threads to them: 9 KB
//
// Threads of a warp meet in sums over a block and in votes whether to go on. What a lane computes
// depends on its block alone, and is what a register's lane computes on a CPU: no fused
// multiply-add, IEEE division, denormals kept (nvcc's defaults but the first).

#include "cuda/lane.hpp"
#include "cuda/quantize.hpp"
#include "quantize/block_search.hpp"

namespace kquant::cuda {

/// What sixteen threads put together.
template <class F>
struct Assembly {
  typename F::Block blocks[detail::kBlocksAtOnce<F>];
  std::int8_t codes[detail::kWeightsAtOnce<F>];
  std::int8_t scale[detail::kLanes], min[detail::kLanes];
};

template <class F>
KQ_DEVICE void assemble(const detail::Found<Lane>& found, const float* x, Assembly<F>& to) {
  constexpr int kSubs = kquant::kSubs<F>;
  const int lane = Lane::index(), b = lane / kSubs, j = lane % kSubs;
  const auto integer = [](Lane v) { return static_cast<std::int8_t>(v.at); };
  to.scale[lane] = integer(found.scale);
  to.min[lane] = integer(found.min);
  for (int i = lane * F::kSub; i < (lane + 1) * F::kSub; ++i)
    to.codes[i] = integer(found.codes<F>(Lane{x[i]}));
  sync_warp();
  typename F::Block& block = to.blocks[b];
  if (j == 0) {
    detail::BlockScales<F> scales{.d = found.d.at, .dmin = found.dmin.at};
    for (int s = 0; s < kSubs; ++s) {
      scales.words.set_scale(s, to.scale[lane + s]);
      scales.words.set_min(s, to.min[lane + s]);
    }
    block = {};
    detail::put_scales<F>(scales, block);
  }
  sync_warp();
  // Weights at one place of their runs share bytes, no others (bit planes: a block has one thread).
  static_assert(kSubs == 1 || !F::run(0).hi_bit_plane);
  detail::put_codes<F>(to.codes + b * F::kBlock, j, kSubs, bytes_of<F>(block));
  sync_warp();
}

template <class F>
KQ_KERNEL(kQuantizeThreads)
void quantize_rows(RowsToQuantize a) {
  wait_for_previous_launches();
  constexpr int kAtOnce = detail::kWeightsAtOnce<F>, kBlocks = detail::kBlocksAtOnce<F>;
  const int group = thread() / detail::kLanes;
  const std::size_t pieces = a.stride / kAtOnce;
  const std::size_t piece =
      static_cast<std::size_t>(block().x) * kQuantizeGroups + static_cast<std::size_t>(group);
  // Threads beyond the last row go through its motions, for the sake of their warp.
  const bool there = piece < pieces * static_cast<std::size_t>(a.rows);
  const std::size_t row = there ? piece / pieces : 0, at = there ? piece % pieces : 0;
  const float* x = a.x + row * a.stride + at * kAtOnce;

  detail::Importances<F, Lane> importances;
  importances.set(a.importance + at * kAtOnce);
  detail::BlockSearch<F, Lane> search(a.plan);
  if (!search.search(x, importances)) {
    *a.bad = 1;
    return;
  }
  auto& assembly = reinterpret_cast<Assembly<F>*>(shared_memory())[group];
  assemble<F>(search.found(), x, assembly);
  if (!there) return;

  using Pair = std::uint16_t;  // blocks have even sizes
  static_assert(sizeof(typename F::Block) % sizeof(Pair) == 0);
  const std::size_t first = at * kBlocks, left = a.blocks - first;
  const auto n = static_cast<int>((left < kBlocks ? left : kBlocks) * sizeof(typename F::Block) /
                                  sizeof(Pair));
  const auto* from = reinterpret_cast<const Pair*>(assembly.blocks);
  auto* to = reinterpret_cast<Pair*>(a.out + (row * a.blocks + first) * sizeof(typename F::Block));
  for (int i = Lane::index(); i < n; i += detail::kLanes) to[i] = from[i];
}

}  // namespace kquant::cuda
