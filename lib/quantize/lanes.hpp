#pragma once
// Eight floats at a time, with sums in one fixed order.
//
// The quantizer writes the same bytes whatever compiler and optimisation level built it. A compiler
// may not reorder a float sum, so a plain loop would stay scalar; here the order is written down:
// element i goes to partial sum i % 8, and sum() adds the eight in a fixed tree. Lanes are the
// compilers' generic vectors, which become SSE, NEON or plain scalar code with the same result.

#include <cstring>

#include "kquant/base/macros.hpp"

namespace kquant::detail {

struct Lanes {
  using Quad = float __attribute__((vector_size(16)));
  static constexpr int kWidth = 8;
  Quad a, b;

  KQ_INLINE static Lanes load(const float* p) {
    Lanes r;
    std::memcpy(&r.a, p, 16);
    std::memcpy(&r.b, p + 4, 16);
    return r;
  }
  KQ_INLINE static Lanes all(float x) {
    const Quad q = {x, x, x, x};
    return {q, q};
  }
  KQ_INLINE void store(float* p) const {
    std::memcpy(p, &a, 16);
    std::memcpy(p + 4, &b, 16);
  }
  KQ_INLINE float sum() const {
    const Quad s = a + b;
    return (s[0] + s[2]) + (s[1] + s[3]);
  }

  KQ_INLINE float smallest() const {
    float r = a[0];
    for (int i = 0; i < 4; ++i) r = a[i] < r ? a[i] : r;
    for (int i = 0; i < 4; ++i) r = b[i] < r ? b[i] : r;
    return r;
  }
  KQ_INLINE float largest() const {
    float r = a[0];
    for (int i = 0; i < 4; ++i) r = a[i] > r ? a[i] : r;
    for (int i = 0; i < 4; ++i) r = b[i] > r ? b[i] : r;
    return r;
  }

  KQ_INLINE friend Lanes operator+(Lanes x, Lanes y) { return {x.a + y.a, x.b + y.b}; }
  KQ_INLINE friend Lanes operator-(Lanes x, Lanes y) { return {x.a - y.a, x.b - y.b}; }
  KQ_INLINE friend Lanes operator*(Lanes x, Lanes y) { return {x.a * y.a, x.b * y.b}; }
  KQ_INLINE friend Lanes smaller(Lanes x, Lanes y) {
    return {x.a < y.a ? x.a : y.a, x.b < y.b ? x.b : y.b};
  }
  KQ_INLINE friend Lanes larger(Lanes x, Lanes y) {
    return {x.a > y.a ? x.a : y.a, x.b > y.b ? x.b : y.b};
  }
};

}  // namespace kquant::detail
