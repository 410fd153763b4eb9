#pragma once
// Keys and values of one sequence in a device's memory:
//
//     layer 0                                                                     | layer 1 …
//     K codes [head][capacity][dim_k] | K scales | V codes [head][capacity][dim_v] | V scales
//
// with dimensions rounded up to 32 (zeros). Codes are binary16, or signed bytes with a binary16
// scale for each 32 dimensions (Q8_0): codes and scales lie apart, so that both are read 16 bytes
// at a time.

#include <cstddef>
#include <cstdint>

#include "kquant/base/macros.hpp"

namespace kquant::cuda {

inline constexpr int kMostHeadDim = 256;

struct KvLayout {
  int layers = 0, heads = 0, dim_k = 0, dim_v = 0;
  bool q8 = false;

  KQ_HOST_DEVICE static constexpr int padded(int dim) { return (dim + 31) / 32 * 32; }
  KQ_HOST_DEVICE constexpr int padded_k() const { return padded(dim_k); }
  KQ_HOST_DEVICE constexpr int padded_v() const { return padded(dim_v); }

  KQ_HOST_DEVICE constexpr std::size_t code_bytes(int dim) const {
    return static_cast<std::size_t>(padded(dim)) * (q8 ? 1 : 2);
  }
  KQ_HOST_DEVICE constexpr std::size_t scale_bytes(int dim) const {
    return q8 ? static_cast<std::size_t>(padded(dim)) / 32 * 2 : 0;
  }
  KQ_HOST_DEVICE constexpr std::size_t plane(std::size_t token_bytes, int capacity) const {
    const std::size_t n = static_cast<std::size_t>(heads) * static_cast<std::size_t>(capacity);
    return (n * token_bytes + 15) / 16 * 16;
  }
  KQ_HOST_DEVICE constexpr std::size_t layer_bytes(int capacity) const {
    return plane(code_bytes(dim_k), capacity) + plane(scale_bytes(dim_k), capacity) +
           plane(code_bytes(dim_v), capacity) + plane(scale_bytes(dim_v), capacity);
  }
  KQ_HOST_DEVICE constexpr std::size_t bytes(int capacity) const {
    return static_cast<std::size_t>(layers) * layer_bytes(capacity);
  }

  /// A capacity that so many bytes hold: the largest, or one less, as planes are completed to 16
  /// bytes.
  constexpr std::size_t tokens_in(std::size_t bytes) const {
    const std::size_t completed = static_cast<std::size_t>(layers) * 4 * 15;
    const std::size_t a_token =
        static_cast<std::size_t>(layers) * static_cast<std::size_t>(heads) *
        (code_bytes(dim_k) + scale_bytes(dim_k) + code_bytes(dim_v) + scale_bytes(dim_v));
    return bytes < completed ? 0 : (bytes - completed) / a_token;
  }

  /// Where token 0 of a head begins; tokens follow code_bytes, scale_bytes apart.
  KQ_HOST_DEVICE constexpr std::size_t key_codes(int layer, int head, int capacity) const {
    return static_cast<std::size_t>(layer) * layer_bytes(capacity) +
           token(head, 0, capacity) * code_bytes(dim_k);
  }
  KQ_HOST_DEVICE constexpr std::size_t key_scales(int layer, int head, int capacity) const {
    return static_cast<std::size_t>(layer) * layer_bytes(capacity) +
           plane(code_bytes(dim_k), capacity) + token(head, 0, capacity) * scale_bytes(dim_k);
  }
  KQ_HOST_DEVICE constexpr std::size_t value_codes(int layer, int head, int capacity) const {
    return static_cast<std::size_t>(layer) * layer_bytes(capacity) +
           plane(code_bytes(dim_k), capacity) + plane(scale_bytes(dim_k), capacity) +
           token(head, 0, capacity) * code_bytes(dim_v);
  }
  KQ_HOST_DEVICE constexpr std::size_t value_scales(int layer, int head, int capacity) const {
    return static_cast<std::size_t>(layer) * layer_bytes(capacity) +
           plane(code_bytes(dim_k), capacity) + plane(scale_bytes(dim_k), capacity) +
           plane(code_bytes(dim_v), capacity) + token(head, 0, capacity) * scale_bytes(dim_v);
  }

 private:
  KQ_HOST_DEVICE static constexpr std::size_t token(int head, int at, int capacity) {
    return static_cast<std::size_t>(head) * static_cast<std::size_t>(capacity) +
           static_cast<std::size_t>(at);
  }
};

/// A row of a chunk of tokens: which token, where in which sequence.
struct RowPlace {
  std::byte* cache;
  int capacity;
  int token, position;
  int rope;  ///< 1: of a cache that uses the factors for long contexts
};

}  // namespace kquant::cuda
