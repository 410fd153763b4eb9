#include "cuda/model/plan.hpp"

#include <algorithm>
#include <bit>

namespace kquant::cuda {
namespace {

constexpr int kLeastKeys = 2 * kKeys;  ///< of a part

int divided_up(int n, int unit) {
  return (n + unit - 1) / unit;
}

}  // namespace

AttentionGrid AttentionPlan::grid() const {
  AttentionGrid grid{static_cast<int>(tiles.size()), static_cast<int>(merges.size())};
  for (const AttentionTile& tile : tiles)
    grid.most_rows = std::max(grid.most_rows, tile.end - tile.begin);
  return grid;
}

AttentionPlan plan_attention(std::span<const PlannedPiece> pieces, int kv_heads, int group,
                             int window, int blocks) {
  AttentionPlan plan;
  int n_tiles = 0, most_keys = 0;
  for (const PlannedPiece& piece : pieces) {
    n_tiles += divided_up(piece.tokens * group, kQueryRows) * kv_heads;
    most_keys = std::max(most_keys, piece.first_position + piece.tokens);
  }
  const auto keys = static_cast<int>(std::bit_ceil(static_cast<unsigned>(most_keys)));
  plan.parts = std::clamp(blocks / std::max(n_tiles, 1), 1, std::max(keys / kLeastKeys, 1));

  for (const PlannedPiece& piece : pieces) {
    const int rows = piece.tokens * group;
    // The last tiles of a prompt see most keys: they start first.
    for (int tile = divided_up(rows, kQueryRows); tile-- > 0;) {
      const int begin = tile * kQueryRows, end = std::min(begin + kQueryRows, rows);
      const int key_end = piece.first_position + (end - 1) / group + 1;
      const int first_end = piece.first_position + begin / group + 1;
      const int key_begin = window == 0 ? 0 : std::max(0, first_end - window);
      const int keys_a_part =
          divided_up(divided_up(key_end - key_begin, plan.parts), kKeys) * kKeys;
      for (int head = 0; head < kv_heads; ++head) {
        if (plan.parts > 1)
          plan.merges.push_back({.kv_head = head,
                                 .first_row = piece.first_row,
                                 .begin = begin,
                                 .end = end,
                                 .first_part = static_cast<int>(plan.tiles.size()),
                                 .parts = plan.parts});
        for (int part = 0; part < plan.parts; ++part) {
          const int from = std::min(key_begin + part * keys_a_part, key_end);
          plan.tiles.push_back({.cache = piece.cache,
                                .capacity = piece.capacity,
                                .kv_head = head,
                                .first_row = piece.first_row,
                                .first_position = piece.first_position,
                                .begin = begin,
                                .end = end,
                                .key_begin = from,
                                .key_end = std::min(from + keys_a_part, key_end),
                                .part = plan.parts > 1 ? static_cast<int>(plan.tiles.size()) : -1});
        }
      }
    }
  }
  return plan;
}

}  // namespace kquant::cuda
