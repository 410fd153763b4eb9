#pragma once
// Row-wise operations of a transformer, one block a row: RMSNorm with the residual sum before it,
// the gated activation, and what all of them end in, activations as tensor cores want them.
//
// Activations are binary16 with a power of two a row that brings the largest to 256 … 512: nothing
// overflows, and what is 2^22 times smaller still has all its bits. The relative error is 2^-12,
// against 2^-8 of int8 with one scale a block.
//
//     limit       launch latency, that of a few rounds of loads, and device memory: 4 … 12 bytes
//                 read and 2 written a number
//     registers   about 30        shared memory  128 bytes

#include "cuda/half_rows.hpp"
#include "cuda/vocabulary.hpp"

namespace kquant::cuda {

inline constexpr int kMostRowThreads = 1024;

/// Of one of the kernels below. When decoding there is one row, whose numbers come in rounds of as
/// many as there are threads, each round as long as memory takes to answer: so, many threads.
constexpr Launch rows_launch(int rows, int cols) {
  return {.x = rows,
          .threads = cols > 1024 ? kMostRowThreads : 256,
          .shared = kMostRowThreads / kWarp * sizeof(float)};
}

/// fn(a, b) of all threads' values, the same in each of them, in an order that is always the same.
template <class Fn>
KQ_DEVICE float reduce_block(float x, const Fn& fn) {
  auto* const of_warps = reinterpret_cast<float*>(shared_memory());
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) x = fn(x, shuffle_xor(x, mask));
  sync_block();  // nobody reads a former result any more
  if (lane() == 0) of_warps[warp()] = x;
  sync_block();
  x = of_warps[0];
  for (int i = 1; i < threads() / kWarp; ++i) x = fn(x, of_warps[i]);
  return x;
}
KQ_DEVICE float sum_of_block(float x) {
  return reduce_block(x, [](float a, float b) { return a + b; });
}
KQ_DEVICE float max_of_block(float x) {
  return reduce_block(x, [](float a, float b) { return fmaxf(a, b); });
}

/// 2^-k and 2^k for numbers up to `most`, such that most * 2^-k is in [256, 512).
struct RowPower {
  float down, up;
};
KQ_DEVICE RowPower power_for(float most) {
  auto exponent = __builtin_bit_cast(std::uint32_t, most) >> 23 & 0xffu;
  if (most == 0) exponent = 127 + 8;
  exponent = exponent < 9 ? 9 : exponent > 254 ? 254 : exponent;
  return {__builtin_bit_cast(float, (262u - exponent) << 23),
          __builtin_bit_cast(float, (exponent - 8u) << 23)};
}

/// Row `row` of `out` = value(0), value(1), …, which are asked for twice: the second time in the
/// order of what is written, whose neighbours fill sectors of memory, by another thread.
template <class Fn>
KQ_DEVICE void store_row(const HalfRows& out, int row, const Fn& value) {
  float most = 0;
  for (int i = thread(); i < out.cols; i += threads()) most = fmaxf(most, fabsf(value(i)));
  const RowPower power = power_for(max_of_block(most));
  for (int place = thread(); place < out.padded; place += threads()) {
    const int i = out.column_at(row, place);
    out.data[out.at_place(row, place)] =
        i < out.cols ? half_bits(value(i) * power.down) : std::uint16_t{0};
  }
  if (thread() == 0) out.scale[row] = power.up;
}

/// 1 / the root of the mean of squares; value(i) is asked for once.
template <class Fn>
KQ_DEVICE float inverse_rms(int cols, float eps, const Fn& value) {
  float squares = 0;
  for (int i = thread(); i < cols; i += threads()) {
    const float x = value(i);
    squares = fmaf(x, x, squares);
  }
  return 1.0f / sqrtf(sum_of_block(squares) / static_cast<float>(cols) + eps);
}

struct Convert {
  const float* x;  ///< rows of out.cols
  HalfRows out;
};
/// out = x
template <int = 0>  // a template, so that any number of files may include it
KQ_KERNEL(kMostRowThreads) void convert_rows(Convert a) {
  wait_for_previous_launches();
  const int row = block().x;
  const float* x = a.x + static_cast<std::size_t>(row) * static_cast<std::size_t>(a.out.cols);
  store_row(a.out, row, [&](int i) { return x[i]; });
}

struct Norm {
  float* x;                            ///< residual stream, rows of out.cols
  const float* branch = nullptr;       ///< added to it first, where there is one …
  const float* post_weight = nullptr;  ///< … with a norm of its own, where there is one
  const float* weight;
  float eps;
  const int* row_of = nullptr;  ///< row i of the result is of row row_of[i] of x; null: of row i
  HalfRows out;
  float* exact = nullptr;  ///< the result in binary32; may be null
};
/// x += branch, or norm(branch);  out = norm(x)
template <int = 0>
KQ_KERNEL(kMostRowThreads)
void norm_rows(Norm a) {
  wait_for_previous_launches();
  const int row = block().x, cols = a.out.cols;
  const auto at = [&](int r) {
    return static_cast<std::size_t>(r) * static_cast<std::size_t>(cols);
  };
  const std::size_t from = at(a.row_of == nullptr ? row : a.row_of[row]);
  float* const x = a.x + from;
  const float* const branch = a.branch == nullptr ? nullptr : a.branch + from;
  float branch_inverse = 1.0f;
  if (a.post_weight != nullptr && branch != nullptr)
    branch_inverse = inverse_rms(cols, a.eps, [&](int i) { return branch[i]; });
  // What is written here is read by others below, after the barriers that sums and maxima need.
  const float inverse = inverse_rms(cols, a.eps, [&](int i) {
    if (branch == nullptr) return x[i];
    return x[i] +=
           a.post_weight == nullptr ? branch[i] : branch[i] * branch_inverse * a.post_weight[i];
  });
  const auto value = [&](int i) { return x[i] * inverse * a.weight[i]; };
  if (a.exact != nullptr)
    for (int i = thread(); i < cols; i += threads())
      a.exact[at(row) + static_cast<std::size_t>(i)] = value(i);
  store_row(a.out, row, value);
}

struct Gate {
  const float* gate_up;  ///< rows of out.cols gates, then as many ups
  bool gelu;             ///< GeGLU (tanh form) instead of SwiGLU
  HalfRows out;
};
/// out = act(gate) * up
template <int = 0>
KQ_KERNEL(kMostRowThreads)
void gate_rows(Gate a) {
  wait_for_previous_launches();
  const int row = block().x, cols = a.out.cols;
  const float* gate =
      a.gate_up + 2 * static_cast<std::size_t>(row) * static_cast<std::size_t>(cols);
  const float* up = gate + cols;
  store_row(a.out, row, [&](int i) {
    const float g = gate[i];
    if (!a.gelu) return g / (1.0f + exp2_fast(-1.44269504f * g)) * up[i];
    const float inner = 0.7978845608f * g * (1.0f + 0.044715f * g * g);
    return 0.5f * g * (1.0f + tanh_fast(inner)) * up[i];
  });
}

struct SoftCap {
  float* x;
  std::size_t n;
  float cap;
};
inline constexpr int kCapThreads = 256;
constexpr Launch soft_cap_launch(std::size_t n) {
  return {.x = static_cast<int>((n + kCapThreads - 1) / kCapThreads), .threads = kCapThreads};
}
/// x = cap * tanh(x / cap)
template <int = 0>
KQ_KERNEL(kCapThreads)
void soft_cap(SoftCap a) {
  wait_for_previous_launches();
  const std::size_t i =
      static_cast<std::size_t>(block().x) * kCapThreads + static_cast<std::size_t>(thread());
  if (i < a.n) a.x[i] = a.cap * tanh_fast(a.x[i] / a.cap);
}

}  // namespace kquant::cuda
