#pragma once
// Keys and values of the tokens seen so far.

#include <cstddef>
#include <span>
#include <vector>

#include "kquant/base/half.hpp"
#include "kquant/model/config.hpp"

namespace kquant {

enum class KvType { kF16, kF32 };

/// Room for `capacity` tokens of one sequence: per layer, K and V of n_kv_heads x head_dim each.
class KvCache {
 public:
  KvCache(const Config& config, int capacity, KvType type = KvType::kF16);

  int size() const { return size_; }
  int capacity() const { return capacity_; }
  KvType type() const { return type_; }
  std::size_t bytes() const;

  /// Forgets all tokens from position `size` on.
  void truncate(int size);
  void clear() { truncate(0); }

 private:
  friend class CacheAccess;  // lib/model: reads and appends
  int capacity_ = 0, size_ = 0;
  KvType type_ = KvType::kF16;
  int n_layers_ = 0, k_width_ = 0, v_width_ = 0;
  std::vector<std::byte> storage_;
};

}  // namespace kquant
