#pragma once
// The inside of a KvCache. A head's keys lie one after the other, so that attention reads memory
// in order:
//
//     layer 0                                             | layer 1 ...
//     K: head 0: token 0 .. capacity - 1 | head 1 ... | V: head 0 ...

#include <cassert>
#include <cstddef>

#include "kquant/base/half.hpp"
#include "kquant/model/kv_cache.hpp"

namespace kquant {

class CacheAccess {
 public:
  explicit CacheAccess(KvCache& cache) : cache_(cache) {}

  bool fits(const Config& config) const {
    return cache_.n_layers_ == config.n_layers && cache_.n_kv_heads_ == config.n_kv_heads &&
           cache_.head_dim_k_ == config.head_dim_k && cache_.head_dim_v_ == config.head_dim_v;
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

  std::size_t capacity() const { return static_cast<std::size_t>(cache_.capacity_); }
  std::size_t n_kv_heads() const { return static_cast<std::size_t>(cache_.n_kv_heads_); }
  std::size_t head_dim_k() const { return static_cast<std::size_t>(cache_.head_dim_k_); }
  std::size_t head_dim_v() const { return static_cast<std::size_t>(cache_.head_dim_v_); }
  void advance(std::size_t tokens) { cache_.size_ += static_cast<int>(tokens); }

 private:
  template <class T>
  T* at(std::size_t layer) const {
    assert(sizeof(T) == (cache_.type_ == KvType::kF16 ? sizeof(Half) : sizeof(float)));
    const std::size_t layer_size = n_kv_heads() * (head_dim_k() + head_dim_v()) * capacity();
    return reinterpret_cast<T*>(cache_.storage_.get()) + layer * layer_size;
  }

  KvCache& cache_;
};

}  // namespace kquant
