#pragma once
// Sixteen floats at a time, in registers of W = 4, 8 or 16.
//
// Every lane computes on its own, in one written order, without fused multiply-add: whatever the
// width of a register, the compiler and the optimisation level, a lane's result is the same, and so
// are the bytes that the quantizer writes. Registers are the compilers' generic vectors; only
// smaller and larger need an intrinsic (gcc makes two instructions of a comparison and a choice).

#include <cstdint>
#include <cstring>

#include "kquant/base/macros.hpp"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace kquant::detail {

/// W floats, and W ints to hold the outcome of a comparison (all bits or none).
template <int W>
struct Register;
template <>
struct Register<4> {
  using Floats = float __attribute__((vector_size(16)));
  using Ints = int __attribute__((vector_size(16)));
#if defined(__SSE2__)
  KQ_INLINE static Floats smaller(Floats a, Floats b) {
    return _mm_min_ps(a, b);
  }
  KQ_INLINE static Floats larger(Floats a, Floats b) {
    return _mm_max_ps(a, b);
  }
#else
  KQ_INLINE static Floats smaller(Floats a, Floats b) {
    return a < b ? a : b;
  }
  KQ_INLINE static Floats larger(Floats a, Floats b) {
    return a > b ? a : b;
  }
#endif
};
#if defined(__AVX2__)
template <>
struct Register<8> {
  using Floats = float __attribute__((vector_size(32)));
  using Ints = int __attribute__((vector_size(32)));
  KQ_INLINE static Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }
  KQ_INLINE static Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
};
#endif
#if defined(__AVX512F__)
template <>
struct Register<16> {
  using Floats = float __attribute__((vector_size(64)));
  using Ints = int __attribute__((vector_size(64)));
  KQ_INLINE static Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  KQ_INLINE static Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
};
#endif

inline constexpr int kLanes = 16;

template <int W>
struct Lanes {
  static constexpr int kRegisters = kLanes / W;
  using R = Register<W>;
  typename R::Floats at[kRegisters];

  struct Mask {
    typename R::Ints at[kRegisters];
    KQ_INLINE bool any() const {
      std::int64_t words[kLanes / 2], all = 0;
      std::memcpy(words, at, sizeof words);
      for (const std::int64_t word : words) all |= word;
      return all != 0;
    }
  };

  KQ_INLINE static Lanes load(const float* p) {
    Lanes r;
    std::memcpy(r.at, p, sizeof r.at);
    return r;
  }
  KQ_INLINE static Lanes all(float x) {
    Lanes r;
    for (int i = 0; i < kRegisters; ++i) r.at[i] = x - typename R::Floats{};
    return r;
  }
  KQ_INLINE static Lanes zero() { return all(0); }
  KQ_INLINE void store(float* p) const { std::memcpy(p, at, sizeof at); }
  /// Integers in -128 … 127.
  KQ_INLINE void store(std::int8_t* p) const {
    std::int32_t ints[kLanes];
    for (int i = 0; i < kRegisters; ++i) {
      const auto whole = __builtin_convertvector(at[i], typename R::Ints);
      std::memcpy(ints + i * W, &whole, sizeof whole);
    }
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<std::int8_t>(ints[i]);
  }

  KQ_INLINE friend Lanes operator+(Lanes x, Lanes y) {
    for (int i = 0; i < kRegisters; ++i) x.at[i] += y.at[i];
    return x;
  }
  KQ_INLINE friend Lanes operator-(Lanes x, Lanes y) {
    for (int i = 0; i < kRegisters; ++i) x.at[i] -= y.at[i];
    return x;
  }
  KQ_INLINE friend Lanes operator*(Lanes x, Lanes y) {
    for (int i = 0; i < kRegisters; ++i) x.at[i] *= y.at[i];
    return x;
  }
  KQ_INLINE friend Lanes operator/(Lanes x, Lanes y) {
    for (int i = 0; i < kRegisters; ++i) x.at[i] /= y.at[i];
    return x;
  }
  KQ_INLINE friend Lanes operator*(float x, Lanes y) { return all(x) * y; }
  KQ_INLINE Lanes operator-() const { return zero() - *this; }

  KQ_INLINE friend Lanes smaller(Lanes x, Lanes y) {
    for (int i = 0; i < kRegisters; ++i) x.at[i] = R::smaller(x.at[i], y.at[i]);
    return x;
  }
  KQ_INLINE friend Lanes larger(Lanes x, Lanes y) {
    for (int i = 0; i < kRegisters; ++i) x.at[i] = R::larger(x.at[i], y.at[i]);
    return x;
  }
  KQ_INLINE friend Lanes magnitude(Lanes x) { return larger(x, -x); }
  KQ_INLINE friend Mask operator<(Lanes x, Lanes y) {
    Mask m;
    for (int i = 0; i < kRegisters; ++i) m.at[i] = x.at[i] < y.at[i];
    return m;
  }
  KQ_INLINE friend Mask operator!=(Lanes x, Lanes y) {
    Mask m;
    for (int i = 0; i < kRegisters; ++i) m.at[i] = x.at[i] != y.at[i];
    return m;
  }
  /// x where the mask is set, else y.
  KQ_INLINE friend Lanes select(Mask m, Lanes x, Lanes y) {
    for (int i = 0; i < kRegisters; ++i) x.at[i] = m.at[i] ? x.at[i] : y.at[i];
    return x;
  }
  /// a / b, or 0 where b is 0.
  KQ_INLINE friend Lanes ratio(Lanes a, Lanes b) {
    return select(zero() < magnitude(b), a / b, zero());
  }
};

}  // namespace kquant::detail
