#pragma once
// Float operations of a transformer on the CPU, on the ISA in use. One thread each: callers spread
// tokens and heads over threads. Results are bitwise the same on every ISA, so that they depend
// neither on the machine nor on how work is split. Output may be the same memory as an input.

#include <cassert>
#include <span>

#include "kernels/table.hpp"
#include "kquant/base/half.hpp"

namespace kquant::ops {

/// out = x / sqrt(mean(x^2) + eps) * weight
inline void rms_norm(std::span<const float> x, std::span<const float> weight, float eps,
                     std::span<float> out) {
  assert(x.size() == weight.size() && x.size() == out.size());
  kernels::table().floats.rms_norm(x.data(), weight.data(), x.size(), eps, out.data());
}

/// Rotates pairs (2i, 2i + 1) of each head by an angle: `cos` holds each cosine twice, `sin` each
/// sine twice, the first one negated. `heads` holds whole heads of head_dim; dimensions from
/// cos.size() on stay as they are.
inline void rope_normal(std::span<float> heads, std::size_t head_dim, std::span<const float> cos,
                        std::span<const float> sin) {
  assert(heads.size() % head_dim == 0 && cos.size() <= head_dim && cos.size() == sin.size());
  kernels::table().floats.rope_normal(heads.data(), heads.size() / head_dim, head_dim, cos.data(),
                                      sin.data(), cos.size() / 2);
}

/// Rotates pairs (i, i + cos.size()) of each head by the angle whose cosine and sine are cos[i],
/// sin[i]; dimensions from 2 * cos.size() on stay as they are.
inline void rope_neox(std::span<float> heads, std::size_t head_dim, std::span<const float> cos,
                      std::span<const float> sin) {
  assert(heads.size() % head_dim == 0 && 2 * cos.size() <= head_dim && cos.size() == sin.size());
  kernels::table().floats.rope_neox(heads.data(), heads.size() / head_dim, head_dim, cos.data(),
                                    sin.data(), cos.size());
}

/// x = exp(x - max) / sum(exp(x - max)). -inf becomes 0.
inline void softmax(std::span<float> x) {
  kernels::table().floats.softmax(x.data(), x.size());
}

/// out = silu(gate) * up, silu(g) = g / (1 + exp(-g)): SwiGLU.
inline void silu_mul(std::span<const float> gate, std::span<const float> up, std::span<float> out) {
  assert(gate.size() == up.size() && gate.size() == out.size());
  kernels::table().floats.silu_mul(gate.data(), up.data(), gate.size(), out.data());
}

/// out = gelu(gate) * up, gelu in its tanh form: GeGLU.
inline void gelu_tanh_mul(std::span<const float> gate, std::span<const float> up,
                          std::span<float> out) {
  assert(gate.size() == up.size() && gate.size() == out.size());
  kernels::table().floats.gelu_tanh_mul(gate.data(), up.data(), gate.size(), out.data());
}

/// x = cap * tanh(x / cap)
inline void soft_cap(std::span<float> x, float cap) {
  kernels::table().floats.soft_cap(x.data(), x.size(), cap);
}

/// y += x
inline void add(std::span<const float> x, std::span<float> y) {
  assert(x.size() == y.size());
  kernels::table().floats.add(x.data(), x.size(), y.data());
}

/// x *= factor
inline void scale(std::span<float> x, float factor) {
  kernels::table().floats.scale(x.data(), x.size(), factor);
}

}  // namespace kquant::ops
