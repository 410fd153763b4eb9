#pragma once
// Causal attention of new tokens over a KV cache: softmax(q k^T) v, grouped heads, an optional
// sliding window and soft cap.
//
// Query rows of the heads that share a KV head are taken together, kQueryTile at a time, so that
// K and V are read from memory once for all of them. Keys are walked in blocks that start at
// multiples of kKeyBlock whatever the tile, and each row's sums run over keys in order: a row's
// result depends neither on the tile it is in, nor on how a prompt was split, nor on threads.

#include <cstddef>
#include <memory>

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

  /// q: M x (n_heads * head_dim_k), already scaled, of tokens at first_position, + 1, … whose keys
  /// and values are in the cache. out: M x (n_heads * head_dim_v).
  template <class T>
  void run(const CacheAccess& cache, const Shape& shape, Span2d<const float> q,
           std::size_t first_position, Span2d<float> out);

 private:
  float* reserve(std::size_t threads, std::size_t keys);
  std::unique_ptr<float[]> scores_;  // threads x kQueryTile x keys
  std::size_t scores_size_ = 0;
};

}  // namespace kquant
