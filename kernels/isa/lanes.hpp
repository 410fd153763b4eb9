#pragma once
// Sixteen floats, on every ISA: one AVX-512 register, two of AVX2, four of NEON, sixteen scalars.
// The width is part of the results: sums are kept in 16 partial sums whose lanes see the same terms
// in the same order everywhere, and nothing is fused, so all ISAs agree bit for bit.
//
// Unit is an xsimd batch, or float itself. The per-ISA headers add what xsimd 8 lacks.

#include <cstdint>
#include <utility>
#include <xsimd/xsimd.hpp>

#include "kquant/base/macros.hpp"

namespace kquant::kernels {

inline constexpr int kLanes = 16;

/// fn.operator()<0>(), fn.operator()<1>(), …: a loop that leaves no loop behind.
template <class Fn, int... kIndex>
KQ_INLINE void unrolled_over(std::integer_sequence<int, kIndex...>, const Fn& fn) {
  (fn.template operator()<kIndex>(), ...);
}
template <int kCount, class Fn>
KQ_INLINE void unrolled(const Fn& fn) {
  unrolled_over(std::make_integer_sequence<int, kCount>{}, fn);
}

/// The compiler's own vector types.
template <class T, int kCount>
struct VectorOf {
  typedef T Type __attribute__((vector_size(sizeof(T) * kCount)));
};

template <class Unit>
struct Lanes {
  static constexpr int kUnit = static_cast<int>(sizeof(Unit) / sizeof(float));
  static constexpr int kUnits = kLanes / kUnit;
  static constexpr bool kScalar = kUnit == 1;
  using Values = typename VectorOf<float, kUnit>::Type;
  Unit v[kUnits];

  KQ_INLINE static Lanes all(float x) {
    Lanes r;
    for (int i = 0; i < kUnits; ++i) r.v[i] = Unit(x);
    return r;
  }
  KQ_INLINE static Lanes load(const float* p) {
    Lanes r;
    for (int i = 0; i < kUnits; ++i) {
      if constexpr (kScalar)
        r.v[i] = p[i];
      else
        r.v[i] = Unit::load_unaligned(p + kUnit * i);
    }
    return r;
  }
  /// The first n <= 16 lanes from memory, `fill` elsewhere.
  KQ_INLINE static Lanes load(const float* p, std::size_t n, float fill) {
    if (n == kLanes) return load(p);
    float padded[kLanes];
    for (std::size_t i = 0; i < kLanes; ++i) padded[i] = i < n ? p[i] : fill;
    return load(padded);
  }
  KQ_INLINE void store(float* p) const {
    for (int i = 0; i < kUnits; ++i) {
      if constexpr (kScalar)
        p[i] = v[i];
      else
        v[i].store_unaligned(p + kUnit * i);
    }
  }
  KQ_INLINE void store(float* p, std::size_t n) const {
    if (n == kLanes) return store(p);
    float padded[kLanes];
    store(padded);
    for (std::size_t i = 0; i < n; ++i) p[i] = padded[i];
  }

  KQ_INLINE friend Lanes operator+(Lanes a, Lanes b) {
    Lanes r;
    for (int i = 0; i < kUnits; ++i) r.v[i] = a.v[i] + b.v[i];
    return r;
  }
  KQ_INLINE friend Lanes operator-(Lanes a, Lanes b) {
    Lanes r;
    for (int i = 0; i < kUnits; ++i) r.v[i] = a.v[i] - b.v[i];
    return r;
  }
  KQ_INLINE friend Lanes operator*(Lanes a, Lanes b) {
    Lanes r;
    for (int i = 0; i < kUnits; ++i) r.v[i] = a.v[i] * b.v[i];
    return r;
  }
  /// By the compiler's operator: xsimd 8's for NEON is an approximation.
  KQ_INLINE friend Lanes operator/(Lanes a, Lanes b) {
    Lanes r;
    for (int i = 0; i < kUnits; ++i) {
      if constexpr (kScalar) {
        r.v[i] = a.v[i] / b.v[i];
      } else {
        using Vector = typename Unit::register_type;
        r.v[i] = Unit(Vector(a.v[i]) / Vector(b.v[i]));
      }
    }
    return r;
  }

  /// a > b ? x : y, lane by lane (y where a or b is NaN).
  KQ_INLINE friend Lanes where_greater(Lanes a, Lanes b, Lanes x, Lanes y) {
    Lanes r;
    for (int i = 0; i < kUnits; ++i) {
      if constexpr (kScalar) {
        r.v[i] = a.v[i] > b.v[i] ? x.v[i] : y.v[i];
      } else {
        // The compiler's own: it knows which of these are one instruction.
        using Vector = typename Unit::register_type;
        r.v[i] = Unit(Vector(a.v[i]) > Vector(b.v[i]) ? Vector(x.v[i]) : Vector(y.v[i]));
      }
    }
    return r;
  }
  /// a > b ? a : b
  KQ_INLINE friend Lanes larger(Lanes a, Lanes b) { return where_greater(a, b, a, b); }
  KQ_INLINE friend Lanes magnitude(Lanes a) {
    Lanes r;
    for (int i = 0; i < kUnits; ++i) {
      if constexpr (kScalar)
        r.v[i] = __builtin_fabsf(a.v[i]);
      else
        r.v[i] = xsimd::abs(a.v[i]);
    }
    return r;
  }

  /// Lanes 1, 0, 3, 2, …
  KQ_INLINE friend Lanes neighbours_swapped(Lanes a) {
    Lanes r;
    if constexpr (kScalar)
      for (int i = 0; i < kUnits; ++i) r.v[i] = a.v[i ^ 1];
    else
      for (int i = 0; i < kUnits; ++i)
        r.v[i] = swapped(a.v[i], std::make_integer_sequence<int, kUnit>{});
    return r;
  }

  /// Lanes kFirst, kFirst + 2, … of these, and then of b.
  template <int kFirst>
  KQ_INLINE Lanes every_second(const Lanes& b) const {
    Lanes r;
    for (int i = 0; i < kUnits; ++i) {
      if constexpr (kUnits == 1) {
        r.v[i] = alternating<kFirst>(v[0], b.v[0], std::make_integer_sequence<int, kUnit>{});
      } else {
        const Unit* const two = 2 * i < kUnits ? v + 2 * i : b.v + (2 * i - kUnits);
        if constexpr (kScalar)
          r.v[i] = two[kFirst];
        else
          r.v[i] = alternating<kFirst>(two[0], two[1], std::make_integer_sequence<int, kUnit>{});
      }
    }
    return r;
  }

  KQ_INLINE float first() const {
    float lanes[kLanes];
    store(lanes);
    return lanes[0];
  }
  /// The largest lane. NaN may hide it, on every ISA the same.
  KQ_INLINE float most() const {
    Lanes a = *this;
    for (int width = kLanes; width > 1; width /= 2)
      a = larger(a.template every_second<0>(a), a.template every_second<1>(a));
    return a.first();
  }

  /// 2^n, where the lanes are n + 1.5 * 2^23 and -127 < n < 128: n then lies in the low bits of
  /// the significand, from where it is moved to the exponent.
  KQ_INLINE friend Lanes power_of_two(Lanes biased) {
    constexpr std::int32_t kOne = 127 << 23;
    Lanes r;
    for (int i = 0; i < kUnits; ++i) {
      if constexpr (kScalar) {
        const auto bits = __builtin_bit_cast(std::uint32_t, biased.v[i]);
        r.v[i] = __builtin_bit_cast(float, (bits << 23) + std::uint32_t{kOne});
      } else {
        using Bits = xsimd::batch<std::int32_t, typename Unit::arch_type>;
        r.v[i] =
            xsimd::bitwise_cast<Unit>((xsimd::bitwise_cast<Bits>(biased.v[i]) << 23) + Bits(kOne));
      }
    }
    return r;
  }

 private:
  template <int kFirst, int... kIndex>
  KQ_INLINE static Unit alternating(Unit a, Unit b, std::integer_sequence<int, kIndex...>) {
    const auto low = Values(typename Unit::register_type(a));
    const auto high = Values(typename Unit::register_type(b));
    return Unit(
        typename Unit::register_type(__builtin_shufflevector(low, high, (2 * kIndex + kFirst)...)));
  }
  template <int... kIndex>
  KQ_INLINE static Unit swapped(Unit a, std::integer_sequence<int, kIndex...>) {
    const auto values = Values(typename Unit::register_type(a));
    return Unit(
        typename Unit::register_type(__builtin_shufflevector(values, values, (kIndex ^ 1)...)));
  }
};

/// Adding and taking away this rounds |x| < 2^22 to an integer, to nearest, ties to even.
inline constexpr float kRoundMagic = 12582912.0f;  // 1.5 * 2^23

}  // namespace kquant::kernels
