#pragma once
// All sixteen lanes (lanes.hpp) in registers of W = 4, 8 or 16 floats: how a CPU searches.
//
// Registers are the compilers' generic vectors; only smaller and larger need an intrinsic (gcc
// makes two instructions of a comparison and a choice).

#include <cstdint>
#include <cstring>

#include "lanes.hpp"
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

template <int W>
struct Lanes {
  static constexpr int kHeld = kLanes;
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
  KQ_INLINE friend Lanes exponent_alone(Lanes x) {
    for (auto& r : x.at) r = (typename R::Floats)((typename R::Ints)r & 0x7f800000);
    return x;
  }

  /// By fours: a square of four floats by four is turned in registers.
  template <int kSub>
  KQ_INLINE static void turn(const float* in, float (*out)[kLanes]) {
    for (int j = 0; j < kLanes; j += 4)
      for (int i = 0; i < kSub; i += 4) {
        Quad r[4];
        for (int k = 0; k < 4; ++k) std::memcpy(&r[k], in + (j + k) * kSub + i, sizeof r[k]);
        const Quad a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
        const Quad b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
        const Quad c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
        const Quad d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
        const Quad turned[4] = {
            __builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
            __builtin_shufflevector(c, d, 0, 1, 4, 5), __builtin_shufflevector(c, d, 2, 3, 6, 7)};
        for (int k = 0; k < 4; ++k) std::memcpy(out[i + k] + j, &turned[k], sizeof turned[k]);
      }
  }

  template <int kSubs>
  KQ_INLINE Lanes sum_of_block() const {
    return over_block<kSubs>([](Quad a, Quad b) { return a + b; });
  }
  template <int kSubs>
  KQ_INLINE Lanes largest_of_block() const {
    return over_block<kSubs>([](Quad a, Quad b) { return Register<4>::larger(a, b); });
  }
  template <int kSubs, class Fn>
  KQ_INLINE Lanes once_a_block(Fn fn) const {
    alignas(64) float v[kLanes];
    store(v);
    for (int b = 0; b < kLanes; b += kSubs) {
      const float of_block = fn(v[b]);
      for (int j = 0; j < kSubs; ++j) v[b + j] = of_block;
    }
    return load(v);
  }

 private:
  using Quad = Register<4>::Floats;

  template <int kSubs, class Join>
  KQ_INLINE Lanes over_block(Join join) const {
    Lanes x = *this;
    if constexpr (kSubs > 1) {
      static_assert(kSubs == 8 || kSubs == 16);
      Quad q[4];
      std::memcpy(q, x.at, sizeof q);
      for (int i = 0; i < 4; i += 2) {
        q[i] = join(q[i], q[i + 1]);
        q[i] = join(q[i], __builtin_shufflevector(q[i], q[i], 2, 3, 0, 1));
        q[i] = join(q[i], __builtin_shufflevector(q[i], q[i], 1, 0, 3, 2));
      }
      if constexpr (kSubs == 16) q[0] = q[2] = join(q[0], q[2]);
      q[1] = q[0];
      q[3] = q[2];
      std::memcpy(x.at, q, sizeof q);
    }
    return x;
  }
};

}  // namespace kquant::detail
