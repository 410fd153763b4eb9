#pragma once
// The float operations of a transformer (see lib/matmul/float_ops.hpp), over 16 lanes. Sums run in
// lane order and one fixed tree; exp and tanh are polynomials evaluated by multiply and add: every
// ISA gives the same bits. Largest relative errors: exp 2e-7, tanh 3e-7 (tested).

#include <cstddef>

#include "kernels/isa/lanes.hpp"
#include "kernels/table.hpp"

namespace kquant::kernels {

inline constexpr float kMostExponent = 88.37f;

/// exp(x) for x <= kMostExponent: 0 below -87.33 (no subnormal results), NaN of NaN.
/// x = n ln 2 + r, |r| <= ln 2 / 2; coefficients of the polynomial in r: Cephes expf (S. Moshier).
template <class Isa>
KQ_INLINE typename Isa::Floats uncapped_exponential(typename Isa::Floats x) {
  using Floats = typename Isa::Floats;
  const auto all = [](float c) __attribute__((always_inline)) {
    return Floats::all(c);
  };
  constexpr float kLeast = -87.33f;
  const Floats at_least = larger(x, all(kLeast));  // kLeast where x is NaN
  const Floats biased = at_least * all(1.44269504088896341f) + all(kRoundMagic);
  const Floats n = biased - all(kRoundMagic);
  // ln 2 in two parts; the first has so few bits that its product with n is exact.
  const Floats r = (at_least - n * all(0.693359375f)) - n * all(-2.12194440e-4f);
  Floats p = all(1.9875691500e-4f);
  p = p * r + all(1.3981999507e-3f);
  p = p * r + all(8.3334519073e-3f);
  p = p * r + all(4.1665795894e-2f);
  p = p * r + all(1.6666665459e-1f);
  p = p * r + all(5.0000001201e-1f);
  const Floats e = ((p * (r * r) + r) + all(1.0f)) * power_of_two(biased);
  const Floats nothing = where_greater(all(kLeast + 0.01f), x, all(0.0f), x);  // x: NaN
  return where_greater(x, all(kLeast), e, nothing);
}

/// The same for any x: Inf above kMostExponent.
template <class Isa>
KQ_INLINE typename Isa::Floats exponential(typename Isa::Floats x) {
  using Floats = typename Isa::Floats;
  const Floats most = Floats::all(kMostExponent);
  const Floats e = uncapped_exponential<Isa>(where_greater(x, most, most, x));
  return where_greater(x, most, Floats::all(__builtin_inff()), e);
}

/// tanh(x): an odd polynomial (Cephes tanhf) below 0.625, 1 - 2 / (exp(2x) + 1) above.
template <class Isa>
KQ_INLINE typename Isa::Floats hyperbolic_tangent(typename Isa::Floats x) {
  using Floats = typename Isa::Floats;
  const auto all = [](float c) __attribute__((always_inline)) {
    return Floats::all(c);
  };
  const Floats size = magnitude(x), z = x * x;
  Floats p = all(-5.70498872745e-3f);
  p = p * z + all(2.06390887954e-2f);
  p = p * z + all(-5.37397155531e-2f);
  p = p * z + all(1.33314422036e-1f);
  p = p * z + all(-3.33332819422e-1f);
  const Floats small = (p * z) * x + x;
  const Floats tail = all(2.0f) / (exponential<Isa>(size + size) + all(1.0f));
  const Floats positive = all(1.0f) - tail;
  const Floats large = where_greater(x, all(0.0f), positive, all(0.0f) - positive);
  return where_greater(size, all(0.625f), large, small);
}

/// y[i] = fn(a[i], b[i]) for whole vectors and then the rest.
template <class Isa, class Fn>
KQ_INLINE void map(const float* a, const float* b, std::size_t n, float* y, const Fn& fn) {
  using Floats = typename Isa::Floats;
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) fn(Isa::load(a + i), Isa::load(b + i)).store(y + i);
  if (i < n)
    fn(Floats::load(a + i, n - i, 0.0f), Floats::load(b + i, n - i, 0.0f)).store(y + i, n - i);
}

/// 16 partial sums of fn(a[i]).
template <class Isa, class Fn>
KQ_INLINE float sum_of(const float* a, std::size_t n, const Fn& fn) {
  using Floats = typename Isa::Floats;
  Floats acc = Floats::all(0.0f);
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) acc = acc + fn(Isa::load(a + i));
  if (i < n) acc = acc + fn(Floats::load(a + i, n - i, 0.0f));
  return Isa::reduce_add(acc);
}

template <class Isa>
void rms_norm(const float* x, const float* weight, std::size_t n, float eps, float* out) noexcept {
  using Floats = typename Isa::Floats;
  const float sum = sum_of<Isa>(
      x, n, [](Floats v) __attribute__((always_inline)) { return v * v; });
  const float factor = 1.0f / Isa::square_root(sum / static_cast<float>(n) + eps);
  const Floats factors = Floats::all(factor);
  map<Isa>(
      x, weight, n,
      out, [&](Floats v, Floats w) __attribute__((always_inline)) { return (v * factors) * w; });
}

/// Pairs (2i, 2i + 1): (a, b) becomes (a, b) * (cos, cos) + (b, a) * (-sin, sin).
template <class Isa>
void rope_normal(float* x, std::size_t n_heads, std::size_t head_dim, const float* cos,
                 const float* sin, std::size_t n_pairs) noexcept {
  using Floats = typename Isa::Floats;
  const std::size_t n = 2 * n_pairs;
  for (std::size_t h = 0; h < n_heads; ++h, x += head_dim)
    for (std::size_t i = 0; i < n; i += kLanes) {
      const std::size_t count = n - i < kLanes ? n - i : kLanes;
      const Floats v = Floats::load(x + i, count, 0.0f);
      const Floats c = Floats::load(cos + i, count, 0.0f), s = Floats::load(sin + i, count, 0.0f);
      (v * c + neighbours_swapped(v) * s).store(x + i, count);
    }
}

/// Pairs (i, i + n_pairs).
template <class Isa>
void rope_neox(float* x, std::size_t n_heads, std::size_t head_dim, const float* cos,
               const float* sin, std::size_t n_pairs) noexcept {
  using Floats = typename Isa::Floats;
  for (std::size_t h = 0; h < n_heads; ++h, x += head_dim)
    for (std::size_t i = 0; i < n_pairs; i += kLanes) {
      const std::size_t count = n_pairs - i < kLanes ? n_pairs - i : kLanes;
      const Floats a = Floats::load(x + i, count, 0.0f);
      const Floats b = Floats::load(x + n_pairs + i, count, 0.0f);
      const Floats c = Floats::load(cos + i, count, 0.0f), s = Floats::load(sin + i, count, 0.0f);
      (a * c - b * s).store(x + i, count);
      (a * s + b * c).store(x + n_pairs + i, count);
    }
}

template <class Isa>
void softmax(float* x, std::size_t n) noexcept {
  using Floats = typename Isa::Floats;
  if (n == 0) return;
  const float kNothing = -__builtin_inff();
  Floats largest = Floats::all(kNothing);
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) largest = larger(Isa::load(x + i), largest);
  if (i < n) largest = larger(Floats::load(x + i, n - i, kNothing), largest);
  const Floats maximum = Floats::all(largest.most());
  Floats acc = Floats::all(0.0f);
  i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats e = uncapped_exponential<Isa>(Isa::load(x + i) - maximum);
    e.store(x + i);
    acc = acc + e;
  }
  if (i < n) {
    const Floats e = uncapped_exponential<Isa>(Floats::load(x + i, n - i, kNothing) - maximum);
    e.store(x + i, n - i);
    acc = acc + e;
  }
  const Floats inverse = Floats::all(1.0f / Isa::reduce_add(acc));
  map<Isa>(
      x, x, n, x, [&](Floats v, Floats) __attribute__((always_inline)) { return v * inverse; });
}

template <class Isa>
void silu_mul(const float* gate, const float* up, std::size_t n, float* out) noexcept {
  using Floats = typename Isa::Floats;
  map<Isa>(
      gate, up, n, out, [](Floats g, Floats u) __attribute__((always_inline)) {
        const Floats one = Floats::all(1.0f);
        return g / (one + exponential<Isa>(Floats::all(0.0f) - g)) * u;
      });
}

/// 0.5 g (1 + tanh(v)) = g / (1 + exp(-2v)),  v = sqrt(2 / pi) (g + 0.044715 g^3): no cancellation.
template <class Isa>
void gelu_tanh_mul(const float* gate, const float* up, std::size_t n, float* out) noexcept {
  using Floats = typename Isa::Floats;
  map<Isa>(
      gate, up, n, out, [](Floats g, Floats u) __attribute__((always_inline)) {
        const Floats inner = g * (Floats::all(1.0f) + Floats::all(0.044715f) * (g * g));
        const Floats e = exponential<Isa>(inner * Floats::all(-1.5957691216057308f));
        return g / (Floats::all(1.0f) + e) * u;
      });
}

template <class Isa>
void soft_cap(float* x, std::size_t n, float cap) noexcept {
  using Floats = typename Isa::Floats;
  const Floats caps = Floats::all(cap);
  map<Isa>(
      x, x, n, x, [&](Floats v, Floats) __attribute__((always_inline)) {
        return caps * hyperbolic_tangent<Isa>(v / caps);
      });
}

template <class Isa>
void add(const float* x, std::size_t n, float* y) noexcept {
  using Floats = typename Isa::Floats;
  map<Isa>(
      y, x, n, y, [](Floats a, Floats b) __attribute__((always_inline)) { return a + b; });
}

template <class Isa>
void scale(float* x, std::size_t n, float factor) noexcept {
  using Floats = typename Isa::Floats;
  const Floats factors = Floats::all(factor);
  map<Isa>(
      x, x, n, x, [&](Floats v, Floats) __attribute__((always_inline)) { return v * factors; });
}

template <class Isa>
constexpr FloatOps float_ops() {
  return {.rms_norm = rms_norm<Isa>,
          .rope_normal = rope_normal<Isa>,
          .rope_neox = rope_neox<Isa>,
          .softmax = softmax<Isa>,
          .silu_mul = silu_mul<Isa>,
          .gelu_tanh_mul = gelu_tanh_mul<Isa>,
          .soft_cap = soft_cap<Isa>,
          .add = add<Isa>,
          .scale = scale<Isa>};
}

}  // namespace kquant::kernels
