#pragma once
// What attention takes: its blocks, as cuda/model/plan.hpp divides them, and how to launch it.

#include "cuda/half_rows.hpp"
#include "cuda/kv_layout.hpp"
#include "cuda/runtime.hpp"
#include "cuda/vocabulary.hpp"

namespace kquant::cuda {

inline constexpr int kWarpRows = 16;  ///< query rows of a warp: of an mma.sync
inline constexpr int kAttentionWarps = 4, kAttentionThreads = kAttentionWarps * kWarp;
inline constexpr int kQueryRows = kWarpRows * kAttentionWarps, kKeys = 64;

/// Query rows and keys of one block. Row r of a piece: token r / group, head r % group.
struct AttentionTile {
  const std::byte* cache;
  int capacity, kv_head;
  int first_row;       ///< of the chunk: where the piece's first token is
  int first_position;  ///< of that token
  int begin, end;      ///< rows, at most kQueryRows
  int key_begin, key_end;
  int part;  ///< where its sums go to be merged; -1: it has all keys
};

/// Of a row of a part: whole sectors of memory.
KQ_HOST_DEVICE constexpr int part_floats(int dim_v) {
  return KvLayout::padded(dim_v) + 8;
}

/// Parts that make up one tile.
struct AttentionMerge {
  int kv_head, first_row, begin, end;
  int first_part, parts;
};

struct AttentionCall {
  const AttentionTile* tiles;
  const AttentionMerge* merges;
  KvLayout kv;
  int layer, q_heads;
  int window;              ///< tokens seen, the current one included; 0: all
  float soft_cap;          ///< 0: none
  const std::uint16_t* q;  ///< rows of q_heads * padded_k, scaled
  HalfRows out;  ///< rows of q_heads * dim_v; scales and what lies beyond stay as they are
  float* parts;  ///< kQueryRows x part_floats() each: values, largest score, sum
};

/// What launches depend on.
struct AttentionGrid {
  int tiles = 0, merges = 0;
  int most_rows = 0;  ///< query rows of the largest tile

  /// Of AttentionCall::parts, where there are merges.
  std::size_t bytes_of_parts(int dim_v) const {
    return static_cast<std::size_t>(tiles) * kQueryRows *
           static_cast<std::size_t>(part_floats(dim_v)) * sizeof(float);
  }
  auto operator<=>(const AttentionGrid&) const = default;
};

/// Attention over all tiles, and merging where there is any; at most kMostHeadDim dimensions. Warps
/// share keys where no tile has more rows than one of them (decoding), else rows.
void attend(Queue& queue, const AttentionCall& call, const AttentionGrid& grid);

}  // namespace kquant::cuda
