#pragma once
// Between the QKV product and attention: norms of Q and K heads, rotation, and storing: Q as
// binary16 for the tensor cores, K and V in the cache. One warp a head of a row.
//
//     limit       launch latency; bytes: 4 read and 2 (1.06 in a Q8_0 cache) written a number
//     registers   about 40        shared memory  1 KB a warp

#include "cuda/kv_layout.hpp"
#include "cuda/vocabulary.hpp"

namespace kquant::cuda {

inline constexpr int kRotateWarps = 4;
inline constexpr std::size_t kRotateShared = kRotateWarps * kMostHeadDim * sizeof(float);

struct Rotate {
  const float* qkv;  ///< rows of Q heads, K heads, V heads
  int q_heads;
  KvLayout kv;
  int layer;
  const RowPlace* rows;
  const float* q_norm = nullptr;  ///< of a head's dimensions; null: none
  const float* k_norm = nullptr;
  float eps = 0;
  float q_scale = 1;
  const float* rope[2];  ///< by RowPlace::rope: (cos, sin) of each pair, positions from 0 on
  int pairs;             ///< that are rotated
  bool neox;             ///< pairs (i, i + pairs) instead of (2i, 2i + 1)
  std::uint16_t* q;      ///< rows of q_heads * padded_k
};

/// d = most / 127 and its inverse, as the CPU's cache has them.
KQ_DEVICE void store_codes(const float* x, int dim, std::byte* codes, std::byte* scales, bool q8) {
  const int padded = KvLayout::padded(dim);
  for (int first = 0; first < padded; first += kWarp) {
    const int i = first + lane();
    const float value = i < dim ? x[i] : 0.0f;
    if (!q8) {
      reinterpret_cast<std::uint16_t*>(codes)[i] = half_bits(value);
      continue;
    }
    float most = fabsf(value);
#pragma unroll
    for (int mask = kWarp / 2; mask > 0; mask /= 2) most = fmaxf(most, shuffle_xor(most, mask));
    const float inverse = most > 0 ? 127.0f / most : 0.0f;
    reinterpret_cast<std::int8_t*>(codes)[i] =
        static_cast<std::int8_t>(static_cast<int>(rintf(value * inverse)));
    if (lane() == 0)
      reinterpret_cast<std::uint16_t*>(scales)[first / kWarp] = half_bits(most / 127.0f);
  }
}

template <int = 0>
KQ_KERNEL(kRotateWarps* kWarp)
void rotate_and_store(Rotate a) {
  const int head = block().y * kRotateWarps + warp();
  const int kv_heads = a.kv.heads, row = block().x;
  wait_for_previous_launches();
  if (head >= a.q_heads + 2 * kv_heads) return;  // whole warps
  const bool is_v = head >= a.q_heads + kv_heads, is_q = head < a.q_heads;
  const int dim = is_v ? a.kv.dim_v : a.kv.dim_k;
  const int row_floats = (a.q_heads + kv_heads) * a.kv.dim_k + kv_heads * a.kv.dim_v;
  const int first =
      is_v ? (a.q_heads + kv_heads) * a.kv.dim_k + (head - a.q_heads - kv_heads) * a.kv.dim_v
           : head * a.kv.dim_k;
  const float* from =
      a.qkv + static_cast<std::size_t>(row) * static_cast<std::size_t>(row_floats) + first;
  float* const x = reinterpret_cast<float*>(shared_memory()) + warp() * kMostHeadDim;
  const RowPlace place = a.rows[row];

  const float* norm = is_v ? nullptr : is_q ? a.q_norm : a.k_norm;
  float squares = 0;
  for (int i = lane(); i < dim; i += kWarp) {
    x[i] = from[i];
    squares = fmaf(from[i], from[i], squares);
  }
  if (norm != nullptr) {
#pragma unroll
    for (int mask = kWarp / 2; mask > 0; mask /= 2) squares += shuffle_xor(squares, mask);
    const float inverse = 1.0f / sqrtf(squares / static_cast<float>(dim) + a.eps);
    for (int i = lane(); i < dim; i += kWarp) x[i] *= inverse * norm[i];
  }
  sync_warp();
  if (!is_v) {
    const auto* turn = reinterpret_cast<const FloatPair*>(place.rope == 0 ? a.rope[0] : a.rope[1]) +
                       static_cast<std::size_t>(place.position) * static_cast<std::size_t>(a.pairs);
    for (int p = lane(); p < a.pairs; p += kWarp) {
      const int i = a.neox ? p : 2 * p, j = a.neox ? p + a.pairs : 2 * p + 1;
      const auto [cos, sin] = turn[p];
      const float xi = x[i], xj = x[j];
      x[i] = xi * cos - xj * sin;
      x[j] = xi * sin + xj * cos;
    }
    sync_warp();
  }

  const auto token = static_cast<std::size_t>(place.position);
  if (is_q) {
    const int padded = a.kv.padded_k();
    std::uint16_t* q = a.q + (static_cast<std::size_t>(row) * static_cast<std::size_t>(a.q_heads) +
                              static_cast<std::size_t>(head)) *
                                 static_cast<std::size_t>(padded);
    for (int i = lane(); i < padded; i += kWarp)
      q[i] = i < dim ? half_bits(x[i] * a.q_scale) : std::uint16_t{0};
  } else if (is_v) {
    const int h = head - a.q_heads - kv_heads;
    store_codes(
        x, dim,
        place.cache + a.kv.value_codes(a.layer, h, place.capacity) + token * a.kv.code_bytes(dim),
        place.cache + a.kv.value_scales(a.layer, h, place.capacity) + token * a.kv.scale_bytes(dim),
        a.kv.q8);
  } else {
    const int h = head - a.q_heads;
    store_codes(
        x, dim,
        place.cache + a.kv.key_codes(a.layer, h, place.capacity) + token * a.kv.code_bytes(dim),
        place.cache + a.kv.key_scales(a.layer, h, place.capacity) + token * a.kv.scale_bytes(dim),
        a.kv.q8);
  }
}

}  // namespace kquant::cuda
