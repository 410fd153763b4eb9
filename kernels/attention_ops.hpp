#pragma once
// Attention as ordinary code sees it: how keys and values lie in a cache, and what a kernel is
// asked for. The kernels are in attention.hpp.
//
// Of one KV head, 16 keys lie interleaved, so that lanes are keys and q k^T needs no sum across
// lanes; values lie one after the other, since there lanes are dimensions:
//
//     keys     group of 16:  dimension 0 of 16 keys | dimension 1 of 16 keys | …
//              Q8_0:         per 32 dimensions, 16 binary16 scales before them
//     values   token 0 | token 1 | …      Q8_0: blocks of 32, each a binary16 scale and 32 int8;
//                                         otherwise padded with zeros to 16 dimensions

#include <cstddef>
#include <cstdint>

#include "kquant/base/macros.hpp"

namespace kquant::kernels {

enum class KvKind : std::uint8_t { kF16, kF32, kQ8_0 };
inline constexpr int kKvKinds = 3;

inline constexpr std::size_t kKeyGroup = 16;   ///< keys interleaved
inline constexpr std::size_t kKvBlock = 32;    ///< dimensions that share a scale
inline constexpr std::size_t kKeySpan = 128;   ///< keys whose softmax is taken at once
inline constexpr std::size_t kQueryTile = 16;  ///< the most query rows that meet them together

KQ_INLINE constexpr std::size_t padded_to(std::size_t n, std::size_t unit) {
  return (n + unit - 1) / unit * unit;
}

/// Bytes of 16 keys of one head.
KQ_INLINE constexpr std::size_t key_group_bytes(KvKind kind, std::size_t dim) {
  if (kind == KvKind::kQ8_0)
    return padded_to(dim, kKvBlock) / kKvBlock * (2 + kKvBlock) * kKeyGroup;
  return dim * kKeyGroup * (kind == KvKind::kF16 ? 2 : 4);
}
/// Bytes of one value of one head.
KQ_INLINE constexpr std::size_t value_bytes(KvKind kind, std::size_t dim) {
  if (kind == KvKind::kQ8_0) return padded_to(dim, kKvBlock) / kKvBlock * (2 + kKvBlock);
  return padded_to(dim, kKeyGroup) * (kind == KvKind::kF16 ? 2 : 4);
}

/// What rows have gathered from the keys they have seen: the largest score, the sum of
/// exp(score - most), and that of exp(score - most) * value.
struct AttentionState {
  float* values;  ///< rows x padded_to(dim_v, 16)
  float* most;    ///< -inf where nothing was seen; the others then 0
  float* sum;
};

/// Query rows that meet the keys of one KV head. Row r sees keys first[r] … end[r] - 1.
struct AttentionTile {
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  std::size_t dim_k = 0, dim_v = 0;
  std::size_t rows = 0;
  const float* q[kQueryTile];  ///< dim_k each, already scaled
  std::size_t first[kQueryTile], end[kQueryTile];
  float soft_cap = 0.0f;     ///< 0: none
  float* scratch = nullptr;  ///< attention_scratch(dim_k, dim_v)
};

KQ_INLINE constexpr std::size_t attention_scratch(std::size_t dim_k, std::size_t dim_v) {
  return kQueryTile * (dim_k + kKeySpan + padded_to(dim_v, kKeyGroup) + 2);
}

/// By kind of cache.
struct AttentionOps {
  void (*store_key[kKvKinds])(const float* x, std::size_t dim, std::size_t lane,
                              std::byte* group) noexcept;
  void (*store_value[kKvKinds])(const float* x, std::size_t dim, std::byte* value) noexcept;
  /// Adds to `state` what the rows see of spans [first, end) of kKeySpan keys, one span after the
  /// other.
  void (*attend[kKvKinds])(const AttentionTile& tile, std::size_t first, std::size_t end,
                           const AttentionState& state) noexcept;
  /// Adds to `state` what `next` has seen; the same as if `state` had seen it, where that is one
  /// span.
  void (*merge)(const AttentionState& next, std::size_t rows, std::size_t dim_v,
                const AttentionState& state) noexcept;
  /// out = values / sum, of one row.
  void (*finish)(const AttentionState& state, std::size_t row, std::size_t dim_v,
                 float* out) noexcept;
};

}  // namespace kquant::kernels
