#pragma once
// Keys and values of the tokens seen so far.

#include <cstddef>
#include <memory>

#include "kquant/base/error.hpp"
#include "kquant/model/accelerator.hpp"
#include "kquant/model/config.hpp"

namespace kquant {

enum class KvType {
  kF16,
  kF32,
  kQ8_0  ///< 8 bits and a scale per 32 dimensions: about half of F16
};

/// Room for `capacity` tokens of one sequence. Memory is taken for that capacity only, and touched
/// as tokens arrive: 2 bytes (F16; 4 F32, 34 / 32 Q8_0) x n_layers x n_kv_heads x (head_dim_k +
/// head_dim_v) a token, for keys rounded up to 16 tokens. A model with RoPE factors for long
/// contexts (phi3) uses them where capacity exceeds Config::original_context_length. A model on an
/// accelerator takes as much memory there when it first meets an empty cache. Move-only.
class KvCache {
 public:
  /// A negative capacity counts as 0. std::bad_alloc passes through.
  KvCache(const Config& config, int capacity, KvType type = KvType::kF16);

  int size() const { return size_; }
  int capacity() const { return capacity_; }
  KvType type() const { return type_; }
  std::size_t bytes() const;

  /// Becomes a copy of the first `size` tokens of `from`, in place of what it held: a prompt that
  /// many sequences begin with is computed once. Costs a copy of these tokens' rows. Errors:
  /// kInvalidArgument (caches of different models or types), kOutOfRange (`from` has fewer tokens,
  /// or this cache no room for them); the cache then stays as it was.
  Result<void> copy_prefix(const KvCache& from, int size);

  /// Forgets all tokens from position `size` on; nothing where there are none.
  void truncate(int size);
  void clear() { truncate(0); }

 private:
  friend class CacheAccess;  // lib/model: reads and appends
  int capacity_ = 0, size_ = 0;
  KvType type_ = KvType::kF16;
  int n_layers_ = 0, n_kv_heads_ = 0, head_dim_k_ = 0, head_dim_v_ = 0;
  std::unique_ptr<std::byte[]> storage_;
  std::unique_ptr<KvStorage> elsewhere_;
};

}  // namespace kquant
