#pragma once
// The inside of a KvCache. A head's keys lie one after the other, so that attention reads memory
// in order:
//
//     layer 0                                             | layer 1 ...
//     K: head 0: token 0 .. capacity - 1 | head 1 ... | V: head 0 ...

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <tuple>

#include "kquant/base/half.hpp"
#include "kquant/model/kv_cache.hpp"

namespace kquant {

class CacheAccess {
 public:
  explicit CacheAccess(const KvCache& cache) : cache_(cache) {}

  bool fits(const Config& config) const {
    return cache_.n_layers_ == config.n_layers && cache_.n_kv_heads_ == config.n_kv_heads &&
           cache_.head_dim_k_ == config.head_dim_k && cache_.head_dim_v_ == config.head_dim_v;
  }

  bool same_shape(const CacheAccess& other) const {
    const auto shape = [](const KvCache& c) {
      return std::tuple(c.n_layers_, c.n_kv_heads_, c.head_dim_k_, c.head_dim_v_, c.type_);
    };
    return shape(cache_) == shape(other.cache_);
  }

  /// Overwrites the first `tokens` tokens of this cache with those of `from`, of the same shape.
  void copy_tokens(const CacheAccess& from, std::size_t tokens) const {
    if (cache_.type_ == KvType::kF16)
      copy_tokens<Half>(from, tokens);
    else
      copy_tokens<float>(from, tokens);
  }

  /// capacity x head_dim_k. T: Half or float, as the cache's type says.
  template <class T>
  T* keys(std::size_t layer, std::size_t head) const {
    return at<T>(layer) + head * capacity() * head_dim_k();
  }
  /// capacity x head_dim_v.
  template <class T>
  T* values(std::size_t layer, std::size_t head) const {
    return at<T>(layer) + (n_kv_heads() * head_dim_k() + head * head_dim_v()) * capacity();
  }

  /// Where head_dim_k (head_dim_v) elements of one token go.
  std::byte* key(std::size_t layer, std::size_t head, std::size_t token) const {
    const std::size_t at = token * head_dim_k();
    return cache_.type_ == KvType::kF16
               ? reinterpret_cast<std::byte*>(keys<Half>(layer, head) + at)
               : reinterpret_cast<std::byte*>(keys<float>(layer, head) + at);
  }
  std::byte* value(std::size_t layer, std::size_t head, std::size_t token) const {
    const std::size_t at = token * head_dim_v();
    return cache_.type_ == KvType::kF16
               ? reinterpret_cast<std::byte*>(values<Half>(layer, head) + at)
               : reinterpret_cast<std::byte*>(values<float>(layer, head) + at);
  }

  std::size_t capacity() const { return static_cast<std::size_t>(cache_.capacity_); }
  std::size_t n_kv_heads() const { return static_cast<std::size_t>(cache_.n_kv_heads_); }
  std::size_t head_dim_k() const { return static_cast<std::size_t>(cache_.head_dim_k_); }
  std::size_t head_dim_v() const { return static_cast<std::size_t>(cache_.head_dim_v_); }
  static void advance(KvCache& cache, std::size_t tokens) {
    cache.size_ += static_cast<int>(tokens);
  }

 private:
  template <class T>
  void copy_tokens(const CacheAccess& from, std::size_t tokens) const {
    for (std::size_t layer = 0; layer < static_cast<std::size_t>(cache_.n_layers_); ++layer)
      for (std::size_t head = 0; head < n_kv_heads(); ++head) {
        std::copy_n(from.keys<T>(layer, head), tokens * head_dim_k(), keys<T>(layer, head));
        std::copy_n(from.values<T>(layer, head), tokens * head_dim_v(), values<T>(layer, head));
      }
  }

  template <class T>
  T* at(std::size_t layer) const {
    assert(sizeof(T) == (cache_.type_ == KvType::kF16 ? sizeof(Half) : sizeof(float)));
    const std::size_t layer_size = n_kv_heads() * (head_dim_k() + head_dim_v()) * capacity();
    return reinterpret_cast<T*>(cache_.storage_.get()) + layer * layer_size;
  }

  const KvCache& cache_;
};

}  // namespace kquant
