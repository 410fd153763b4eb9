#pragma once
// The inside of a KvCache. What attention reads of a head lies together, in the order in which it
// is read (kernels/attention_ops.hpp has the order within a head):
//
//     layer 0                                             | layer 1 ...
//     K: head 0: token 0 .. capacity - 1 | head 1 ... | V: head 0 ...

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <tuple>

#include "kernels/table.hpp"
#include "kquant/model/kv_cache.hpp"

namespace kquant {

class CacheAccess {
 public:
  static constexpr std::size_t kAlign = 64;  ///< of the first layer

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

  std::size_t capacity() const { return static_cast<std::size_t>(cache_.capacity_); }
  std::size_t n_kv_heads() const { return static_cast<std::size_t>(cache_.n_kv_heads_); }
  std::size_t head_dim_k() const { return static_cast<std::size_t>(cache_.head_dim_k_); }
  std::size_t head_dim_v() const { return static_cast<std::size_t>(cache_.head_dim_v_); }
  kernels::KvKind kind() const {
    switch (cache_.type_) {
      case KvType::kF16:
        return kernels::KvKind::kF16;
      case KvType::kF32:
        return kernels::KvKind::kF32;
      case KvType::kQ8_0:
        break;
    }
    return kernels::KvKind::kQ8_0;
  }
  std::size_t layer_bytes() const { return n_kv_heads() * (keys_bytes() + values_bytes()); }

  /// All keys, all values of a head.
  std::byte* keys(std::size_t layer, std::size_t head) const {
    return at(layer) + head * keys_bytes();
  }
  std::byte* values(std::size_t layer, std::size_t head) const {
    return at(layer) + n_kv_heads() * keys_bytes() + head * values_bytes();
  }

  /// Stores the key and the value (head_dim_k, head_dim_v) of one token.
  void store(std::size_t layer, std::size_t head, std::size_t token, std::span<const float> key,
             std::span<const float> value) const {
    const kernels::AttentionOps& ops = kernels::table().attention;
    const auto type = static_cast<std::size_t>(kind());
    ops.store_key[type](key.data(), key.size(), token % kernels::kKeyGroup,
                        keys(layer, head) + token / kernels::kKeyGroup * group_bytes());
    ops.store_value[type](value.data(), value.size(), values(layer, head) + token * value_bytes());
  }

  /// Overwrites the first `tokens` tokens of this cache with those of `from`, of the same shape.
  void copy_tokens(const CacheAccess& from, std::size_t tokens) const {
    const std::size_t groups = groups_of(tokens);
    for (std::size_t layer = 0; layer < static_cast<std::size_t>(cache_.n_layers_); ++layer)
      for (std::size_t head = 0; head < n_kv_heads(); ++head) {
        std::memcpy(keys(layer, head), from.keys(layer, head), groups * group_bytes());
        std::memcpy(values(layer, head), from.values(layer, head), tokens * value_bytes());
      }
  }

  /// What holds the tokens in place of the CPU's memory; null: nothing does.
  KvStorage* elsewhere() const { return cache_.elsewhere_.get(); }
  static void put_elsewhere(KvCache& cache, std::unique_ptr<KvStorage> storage) {
    cache.elsewhere_ = std::move(storage);
  }

  static void advance(KvCache& cache, std::size_t tokens) {
    cache.size_ += static_cast<int>(tokens);
  }

 private:
  static std::size_t groups_of(std::size_t tokens) {
    return (tokens + kernels::kKeyGroup - 1) / kernels::kKeyGroup;
  }
  std::size_t group_bytes() const { return kernels::key_group_bytes(kind(), head_dim_k()); }
  std::size_t value_bytes() const { return kernels::value_bytes(kind(), head_dim_v()); }
  std::size_t keys_bytes() const { return groups_of(capacity()) * group_bytes(); }
  std::size_t values_bytes() const { return capacity() * value_bytes(); }
  std::byte* at(std::size_t layer) const {
    std::byte* const storage = cache_.storage_.get();
    const auto misaligned = reinterpret_cast<std::uintptr_t>(storage) % kAlign;
    return storage + (kAlign - misaligned) % kAlign + layer * layer_bytes();
  }

  const KvCache& cache_;
};

}  // namespace kquant
