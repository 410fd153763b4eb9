#pragma once
// Which blocks of attention a chunk of tokens needs. Ordinary arithmetic, made on the CPU for every
// chunk and copied to the device: launches see only how many there are, so that a recorded step
// serves any positions.

#include <span>
#include <vector>

#include "cuda/attention.hpp"

namespace kquant::cuda {

/// Consecutive tokens of one sequence within a chunk.
struct PlannedPiece {
  const std::byte* cache;
  int capacity;
  int first_row;       ///< of the chunk
  int first_position;  ///< of the sequence
  int tokens;
};

struct AttentionPlan {
  std::vector<AttentionTile> tiles;
  std::vector<AttentionMerge> merges;  ///< none where every tile has all its keys
  int parts = 1;                       ///< of each tile

  AttentionGrid grid() const;
};

/// Query rows of each piece and KV head in tiles of at most kQueryRows, their keys divided into
/// parts where there are fewer tiles than `blocks` the device has room for. The number of parts
/// depends on positions only by the next power of two. `window`: as in AttentionCall.
AttentionPlan plan_attention(std::span<const PlannedPiece> pieces, int kv_heads, int group,
                             int window, int blocks);

}  // namespace kquant::cuda
