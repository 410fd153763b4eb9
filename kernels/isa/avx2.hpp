#pragma once
// AVX2 with F16C: a chunk is two registers. Products go through int16 pairs (vpmaddubsw), which is
// exact for codes up to 63 (63 * 127 * 2 = 16,002) and for int8 times -127 … 127
// (2 * 128 * 127 = 32,512).

#include "kernels/isa/rows.hpp"
#include "kernels/isa/x86.hpp"

namespace kquant::kernels {

struct Avx2 : X86 {
  static constexpr Isa kIsa = Isa::kAvx2;
  static constexpr const char* kName = "avx2";
  static constexpr int kColumns = 4;
  static constexpr std::uint8_t kActivationFlip = 0;

  struct Bytes {
    __m256i v[2];
  };
  struct Ints {
    __m256i v[2];
  };
  struct Words {
    __m256i v[2];
  };
  using Sums = __m256i;
  using Floats = Lanes<xsimd::batch<float, xsimd::avx2>>;

  KQ_INLINE static Bytes load_bytes(const std::uint8_t* p) {
    return {{load256(p), load256(p + 32)}};
  }
  template <Plane kPlane>
  KQ_INLINE static Bytes plane(const std::uint8_t* p) {
    return {{half_plane<kPlane, 0>(p), half_plane<kPlane, 1>(p)}};
  }
  template <BitPlane kPlane>
  KQ_INLINE static Bytes bit_plane(const std::uint8_t* p) {
    return {{half_bits<kPlane, 0>(p), half_bits<kPlane, 1>(p)}};
  }
  KQ_INLINE static Bytes merge(Bytes a, Bytes b) {
    return {{_mm256_or_si256(a.v[0], b.v[0]), _mm256_or_si256(a.v[1], b.v[1])}};
  }
  KQ_INLINE static Bytes subtract(Bytes a, int n) {
    const __m256i all = _mm256_set1_epi8(static_cast<char>(n));
    return {{_mm256_sub_epi8(a.v[0], all), _mm256_sub_epi8(a.v[1], all)}};
  }
  template <int kQuarter>
  KQ_INLINE static Floats quarter(Bytes a) {
    const __m128i codes = _mm256_extracti128_si256(a.v[kQuarter / 2], kQuarter % 2);
    return to_floats(
        {{_mm256_cvtepi8_epi32(codes), _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(codes, codes))}});
  }

  template <int kChunk>
  KQ_INLINE static Words spread(Sums a) {
    // Four words of chunk j lie in one half of the register: words 4 * (j % 2) on.
    const __m256i half = _mm256_permute4x64_epi64(a, kChunk / 2 == 0 ? 0x44 : 0xee);
    constexpr int kByte = 8 * (kChunk % 2);
    const auto pick = [&](int first) {
      const auto w = [&](int i) { return static_cast<short>((kByte + 2 * i) * 0x101 + 0x100); };
      const short a0 = w(first), a1 = w(first + 1);
      return _mm256_setr_epi16(a0, a0, a0, a0, a0, a0, a0, a0, a1, a1, a1, a1, a1, a1, a1, a1);
    };
    return {{_mm256_shuffle_epi8(half, pick(0)), _mm256_shuffle_epi8(half, pick(2))}};
  }

  KQ_INLINE static Ints zero() { return {{_mm256_setzero_si256(), _mm256_setzero_si256()}}; }
  KQ_INLINE static Ints scaled_dot(Ints acc, Bytes q, Bytes a, Words s) {
    for (int h = 0; h < 2; ++h) {
      const __m256i pairs = _mm256_maddubs_epi16(q.v[h], a.v[h]);
      acc.v[h] = _mm256_add_epi32(acc.v[h], _mm256_madd_epi16(pairs, s.v[h]));
    }
    return acc;
  }
  KQ_INLINE static Ints dot_start(Bytes) { return zero(); }
  KQ_INLINE static Ints dot_signed(Ints acc, Bytes q, Bytes a) {
    for (int h = 0; h < 2; ++h) {
      const __m256i pairs =
          _mm256_maddubs_epi16(_mm256_abs_epi8(q.v[h]), _mm256_sign_epi8(a.v[h], q.v[h]));
      acc.v[h] = _mm256_add_epi32(acc.v[h], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return acc;
  }
  KQ_INLINE static Ints sums_dot(Sums w, const std::int16_t* sums) {
    return {{_mm256_madd_epi16(w, load256(sums)), _mm256_setzero_si256()}};
  }

  KQ_INLINE static Floats to_floats(Ints a) {
    return {{_mm256_cvtepi32_ps(a.v[0]), _mm256_cvtepi32_ps(a.v[1])}};
  }
  KQ_INLINE static Floats load(const float* p) { return Floats::load(p); }
  KQ_INLINE static Floats load(const Half* p) {
    return {{_mm256_cvtph_ps(load128(p)), _mm256_cvtph_ps(load128(p + 8))}};
  }
  KQ_INLINE static Floats load(const BFloat16* p) {
    const auto high_half = [](__m128i bits) {
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    };
    return {{high_half(load128(p)), high_half(load128(p + 8))}};
  }
  KQ_INLINE static Floats load(const std::int8_t* p) {
    const __m128i codes = load128(p);
    return {{_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)),
             _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(codes, codes)))}};
  }
  KQ_INLINE static Floats multiply_add(Floats acc, Floats a, Floats b) {
    return {{_mm256_fmadd_ps(a.v[0], b.v[0], acc.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], acc.v[1])}};
  }
  KQ_INLINE static void store_half(Floats a, Half* p) {
    for (int h = 0; h < 2; ++h)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8 * h),
                       _mm256_cvtps_ph(a.v[h], _MM_FROUND_TO_NEAREST_INT));
  }
  KQ_INLINE static void store_codes(Floats a, std::uint8_t* p) {
    const __m256i words =
        _mm256_packs_epi32(_mm256_cvtps_epi32(a.v[0]), _mm256_cvtps_epi32(a.v[1]));
    const __m256i in_order = _mm256_permute4x64_epi64(words, 0xd8);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(p),
        _mm_packs_epi16(_mm256_castsi256_si128(in_order), _mm256_extracti128_si256(in_order, 1)));
  }
  KQ_INLINE static float reduce_add(Floats a) {
    return X86::reduce_add(_mm256_add_ps(a.v[0], a.v[1]));
  }

  KQ_INLINE static Floats widen(Octet a) { return {{a, _mm256_setzero_ps()}}; }
  template <int kChunk>
  KQ_INLINE static Floats spread_octet(Octet a) {
    const auto lane = [&](int i) { return _mm256_permutevar8x32_ps(a, _mm256_set1_epi32(i)); };
    return {{lane(2 * kChunk), lane(2 * kChunk + 1)}};
  }

  // Lanes are rows (isa/rows.hpp).
  using Rows = RowVectors<8>;
  static constexpr bool kCentersBytes = true;
  static constexpr bool kPremultiplies = false, kPairsSums = false, kScalesInDot = true,
                        kSharesActivations = false;
  template <int kMaxCode, int kCount>
  KQ_INLINE static Rows::Int dot(Rows::Int acc, const Rows::Word* w, const std::int8_t* a) {
    return dot_scaled<kMaxCode, kCount>(acc, w, a, (Rows::Word)_mm256_set1_epi16(1));
  }
  /// As many pairs of products are added in int16 as are sure to fit: 32,767 / (kMaxCode * 254).
  /// The instruction that then adds two int16 multiplies them, too.
  template <int kMaxCode, int kCount>
  KQ_INLINE static Rows::Int dot_scaled(Rows::Int acc, const Rows::Word* w, const std::int8_t* a,
                                        Rows::Word scale) {
    constexpr int kFit = 32767 / (kMaxCode * 254), kTogether = kFit < 1 ? 1 : kFit;
    auto sum = (__m256i)acc;
    __m256i pairs{};
    unrolled<kCount>([&]<int i>() __attribute__((always_inline)) {
      const __m256i codes = (__m256i)w[i], four = _mm256_set1_epi32(load_int(a + 4 * i));
      __m256i products;
      if constexpr (kMaxCode > 127) {
        const __m256i centred = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
        products = _mm256_maddubs_epi16(_mm256_abs_epi8(centred), _mm256_sign_epi8(four, centred));
      } else {
        products = _mm256_maddubs_epi16(codes, four);
      }
      pairs = i % kTogether == 0 ? products : _mm256_add_epi16(pairs, products);
      if constexpr (i % kTogether == kTogether - 1 || i == kCount - 1)
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, (__m256i)scale));
    });
    return (Rows::Int)sum;
  }
  KQ_INLINE static Rows::Int dot_pairs(Rows::Int acc, Rows::Word pairs, const std::int16_t* a) {
    return acc + (Rows::Int)_mm256_madd_epi16((__m256i)pairs, _mm256_set1_epi32(load_int(a)));
  }
  KQ_INLINE static Rows::Float multiply_add(Rows::Float a, Rows::Float b, Rows::Float c) {
    return (Rows::Float)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
  }
  KQ_INLINE static Rows::Float row_halves(const std::uint8_t* p) {
    return (Rows::Float)_mm256_cvtph_ps(load128(p));
  }

 private:
  template <Plane kPlane, int kHalf>
  KQ_INLINE static __m256i half_plane(const std::uint8_t* p) {
    constexpr int kMove0 = kPlane.move[2 * kHalf], kMove1 = kPlane.move[2 * kHalf + 1];
    __m256i v = load_quarters<kPlane.at[2 * kHalf], kPlane.at[2 * kHalf + 1]>(p);
    // Bits that cross into a neighbouring byte are masked away.
    if constexpr (kMove0 != kMove1) {
      static_assert(kMove0 <= 0 && kMove1 <= 0);
      v = _mm256_srlv_epi32(v, _mm256_setr_epi32(-kMove0, -kMove0, -kMove0, -kMove0, -kMove1,
                                                 -kMove1, -kMove1, -kMove1));
    } else if constexpr (kMove0 < 0) {
      v = _mm256_srli_epi16(v, -kMove0);
    } else if constexpr (kMove0 > 0) {
      v = _mm256_slli_epi16(v, kMove0);
    }
    if constexpr (kPlane.mask != 255)
      v = _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(kPlane.mask)));
    return v;
  }

  template <BitPlane kPlane, int kHalf>
  KQ_INLINE static __m256i half_bits(const std::uint8_t* p) {
    static_assert(kPlane.at[2 * kHalf + 1] == kPlane.at[2 * kHalf] + 2);
    int word;
    __builtin_memcpy(&word, p + kPlane.at[2 * kHalf], 4);
    const __m256i byte_of_weight =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit_of_weight = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(word), byte_of_weight);
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit_of_weight), bit_of_weight);
    return _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(1 << kPlane.up)));
  }
};
static_assert(KernelIsa<Avx2>);

}  // namespace kquant::kernels
