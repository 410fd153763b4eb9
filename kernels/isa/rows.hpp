#pragma once
// Vectors whose lanes are rows of W: the second vocabulary, for packed weights (packed/layout.hpp).
//
//     Word    per row 32 bits: four codes, four scales, or a pair of int16     + - & | ^ << >>
//     Int     per row one int32                                                + - * << >>
//     Float   per row one binary32                                             + - *
//
// All of these operators come with the compiler's vector types. An instruction set adds
//
//     kRows                             rows in a register: 4, 8, 16
//     dot<kMaxCode, kCount>(acc, w, a)  acc + sum of w[i]'s codes * a[4i … 4i + 3]; codes are
//                                       unsigned and at most kMaxCode, activations int8
//     kPremultiplies                    dot takes codes up to 255: codes times scales fit
//     kPairsSums                        there are pair and add_pairs:
//       pair(low, high)                 two sums that fit int16, side by side
//       add_pairs(acc, a, b)            acc + a's low int16 * b's + a's high int16 * b's
//     kScalesInDot                      there is dot_scaled<…>(acc, w, a, scale), dot's products
//                                       times a scale, which a Word has twice as int16
//     kCentersBytes                     where kMaxCode is 255: dot takes 128 away from each code
//     kSharesActivations                there are registers enough for two panels:
//       dot_shared<kFrom, kCount>(      sums[i] += dot of w[i][kFrom …], of all panels i, and
//           sums, w, a)                 a[4 * kFrom …]
//     dot_pairs(acc, pairs, a)          acc + low int16 * a[0] + high int16 * a[1]
//     multiply_add(a, b, c)             a * b + c as Float, rounded once on every ISA
//     row_halves(p)                     kRows binary16 numbers as Float

#include <cstdint>

#include "kernels/isa/lanes.hpp"
#include "kquant/base/half.hpp"
#include "kquant/base/macros.hpp"

namespace kquant::kernels {

/// Four activation codes, or two sums of codes, as one number to be copied to every lane.
KQ_INLINE std::int32_t load_int(const void* p) {
  std::int32_t x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}

template <int kRowsInRegister>
struct RowVectors {
  static constexpr int kRows = kRowsInRegister;
  using Word = typename VectorOf<std::uint32_t, kRows>::Type;
  using Int = typename VectorOf<std::int32_t, kRows>::Type;
  using Float = typename VectorOf<float, kRows>::Type;

  template <class V>
  KQ_INLINE static V load(const void* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  template <class V>
  KQ_INLINE static void store(void* p, V v) {
    __builtin_memcpy(p, &v, sizeof v);
  }
  /// An int32 and a binary32 side by side in memory, each in all lanes.
  struct Both {
    Int first;
    Float second;
  };
  KQ_INLINE static Both both(const void* at) {
    float second;
    __builtin_memcpy(&second, static_cast<const char*>(at) + 4, sizeof second);
    return {all(load_int(at)), all(second)};
  }
  KQ_INLINE static Int all(std::int32_t x) { return x - Int{}; }
  KQ_INLINE static Float all(float x) { return x - Float{}; }
  KQ_INLINE static Float to_float(Int v) { return __builtin_convertvector(v, Float); }
};

/// No instruction, but the compiler computes v before it and what is written below it after it.
template <class V>
KQ_INLINE void keep_in_order(V& v) {
#if defined(__x86_64__)
  asm volatile("" : "+v"(v));  // any of 32 registers
#elif defined(__aarch64__)
  asm volatile("" : "+w"(v));
#endif
}

}  // namespace kquant::kernels
