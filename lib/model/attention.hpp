#pragma once
// Causal attention of new tokens over KV caches: softmax(q k^T) v, grouped heads, an optional
// sliding window and soft cap.
//
// Query rows of the heads that share a KV head are taken together, so that K and V are read from
// memory once for all of them. Keys are walked in spans of 128 (kernels/attention.hpp): a row's
// result depends neither on the tile it is in, nor on how a prompt was split, nor on threads, nor
// on what other sequences are computed with it.

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "kquant/base/span2d.hpp"
#include "model/cache_access.hpp"

namespace kquant {

class Attention {
 public:
  struct Shape {
    std::size_t layer = 0;
    std::size_t n_heads = 0;
    std::size_t window = 0;  ///< tokens seen, the current one included; 0: all
    float soft_cap = 0.0f;   ///< 0: none
  };

  /// Consecutive tokens of one sequence, at first_position, + 1, …, whose keys and values are in
  /// the cache.
  struct Queries {
    const KvCache* cache;
    std::size_t first_position;
    Span2d<const float> q;  ///< M x (n_heads * head_dim_k), already scaled
    Span2d<float> out;      ///< M x (n_heads * head_dim_v)
  };

  /// All caches fit the same model.
  void run(const Shape& shape, std::span<const Queries> sequences);

 private:
  /// Query rows begin … end - 1 of a KV head, and the spans of keys that they see.
  struct Tile {
    const Queries* queries;
    std::size_t kv_head, begin, end, first_span, end_span;
  };
  /// What a tile gathers from one span.
  struct Piece {
    const Tile* tile;
    std::size_t span;
    float* state;
  };
  struct Plan {
    bool parallel = false;
    bool spread_keys = false;  ///< threads take pieces, else tiles
  };
  Plan plan(const Shape& shape, std::span<const Queries> sequences);
  void reserve_states();
  void attend(const Shape& shape, const Tile& tile, std::size_t first_span, std::size_t end_span,
              float* scratch, const kernels::AttentionState& state) const;
  void finish(const Shape& shape, const Tile& tile, const kernels::AttentionState& state) const;

  // Scratch, grown to the largest call.
  std::size_t dim_k_ = 0, dim_v_ = 0;
  std::vector<Tile> tiles_;
  std::vector<Piece> pieces_;
  std::vector<float> scratch_;  // of each thread
  std::unique_ptr<float[]> states_;
  std::size_t states_size_ = 0;
};

}  // namespace kquant
