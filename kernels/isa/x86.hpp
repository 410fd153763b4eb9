#pragma once
// What AVX2 and AVX-512 share: pieces of up to 256 bits. All of it needs -mavx2 -mf16c.

#include <immintrin.h>

#include "kernels/isa/concept.hpp"
#include "kernels/isa/lanes.hpp"
#include "kquant/dispatch.hpp"

namespace kquant::kernels {

struct X86 {
  using Octet = __m256;

  KQ_INLINE static __m128i load128(const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
  }
  KQ_INLINE static __m256i load256(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  }

  /// Bytes of two quarters: one load where they are neighbours, a broadcast where they are the same
  /// bytes.
  template <int kAt0, int kAt1>
  KQ_INLINE static __m256i load_quarters(const std::uint8_t* p) {
    if constexpr (kAt1 == kAt0 + 16)
      return load256(p + kAt0);
    else if constexpr (kAt1 == kAt0)
      return _mm256_broadcastsi128_si256(load128(p + kAt0));
    else
      return _mm256_inserti128_si256(_mm256_castsi128_si256(load128(p + kAt0)), load128(p + kAt1),
                                     1);
  }

  KQ_INLINE static float reduce_add(__m256 a) {
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  KQ_INLINE static float to_float(Half h) { return _cvtsh_ss(h.bits); }
  KQ_INLINE static float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

  /// int8 scales -> 16 words, one a quarter.
  template <int kSubs>
  KQ_INLINE static __m256i sub_words(const std::uint32_t* words) {
    const auto word = [&](int i) __attribute__((always_inline)) {
      return static_cast<int>(words[i]);
    };
    __m128i bytes;
    if constexpr (kSubs == 16) {
      bytes = _mm_set_epi32(word(3), word(2), word(1), word(0));
    } else {
      static_assert(kSubs == 8);
      bytes = _mm_set_epi32(0, 0, word(1), word(0));
      bytes = _mm_unpacklo_epi8(bytes, bytes);
    }
    return _mm256_cvtepi8_epi16(bytes);
  }
  KQ_INLINE static __m256i times(__m256i a, int n) {
    return _mm256_mullo_epi16(a, _mm256_set1_epi16(static_cast<short>(n)));
  }

  template <int kStride>
  KQ_INLINE static Octet halves(const std::uint8_t* p) {
    const auto half = [&](int i) __attribute__((always_inline)) {
      short bits;
      __builtin_memcpy(&bits, p + kStride * i, 2);
      return bits;
    };
    return _mm256_cvtph_ps(
        _mm_set_epi16(half(7), half(6), half(5), half(4), half(3), half(2), half(1), half(0)));
  }
  KQ_INLINE static Octet load_octet(const float* p) { return _mm256_loadu_ps(p); }
  KQ_INLINE static Octet multiply(Octet a, Octet b) { return _mm256_mul_ps(a, b); }
  KQ_INLINE static void store_octet(Octet a, float* p) { _mm256_storeu_ps(p, a); }
};

}  // namespace kquant::kernels
