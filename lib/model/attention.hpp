#pragma once
// Causal attention of new tokens over KV caches: softmax(q k^T) v, grouped heads, an optional
// sliding window and soft cap.
//
// Query rows of the heads that share a KV head are taken together, kQueryTile at a time, so that
// K and V are read from memory once for all of them. Keys are walked in blocks that start at
// multiples of kKeyBlock whatever the tile, and each row's sums run over keys in order: a row's
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
  struct Task {
    const Queries* queries;
    std::size_t kv_head, begin, end;  ///< rows of the heads that share the KV head
  };
  void plan(const Shape& shape, std::span<const Queries> sequences);
  template <class T>
  void run(const Shape& shape, const Task& task, float* scores, std::size_t stride);

  std::vector<Task> tasks_;
  std::vector<float> scores_;  // threads x kQueryTile x keys
};

}  // namespace kquant
