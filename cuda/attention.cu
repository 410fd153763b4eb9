#include "cuda/attention.cuh"

#include <algorithm>

namespace kquant::cuda {

void attend(Queue& queue, const AttentionCall& call, const AttentionGrid& grid) {
  const auto with = [&]<int kDim, Split kSplit>() {
    queue.launch(
        {.x = grid.tiles, .threads = kAttentionThreads, .shared = AttentionShape<kDim>::kShared},
        call.kv.q8 ? attention<kDim, true, kSplit> : attention<kDim, false, kSplit>, call);
  };
  const auto of = [&]<int kDim>() {
    if (grid.most_rows <= kWarpRows)
      with.template operator()<kDim, Split::kKeys>();
    else
      with.template operator()<kDim, Split::kRows>();
  };
  const int dim = std::max(call.kv.padded_k(), call.kv.padded_v());
  if (dim <= 64)
    of.template operator()<64>();
  else if (dim <= 128)
    of.template operator()<128>();
  else
    of.template operator()<256>();
  if (grid.merges > 0)
    queue.launch({.x = grid.merges, .y = grid.most_rows, .threads = kMostHeadDim},
                 merge_attention<>, call);
}

}  // namespace kquant::cuda
