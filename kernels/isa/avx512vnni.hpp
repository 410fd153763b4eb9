#pragma once
// AVX-512 (F, BW, DQ, VL) with VNNI: a chunk is one register.
//
// Sub-block scales: vpmaddubsw (exact, see avx2.hpp) and then vpdpwssd, whose second factor is the
// scale: two instructions per 64 products, where vpdpbusd would need vpmulld and vpaddd besides.
// Signed codes: vpdpbusd wants one unsigned side, so activations of block32 formats are stored with
// their sign bit flipped (a + 128), and 128 * (sum of codes) is taken away in the start value.

#include "kernels/isa/rows.hpp"
#include "kernels/isa/x86.hpp"

namespace kquant::kernels {

struct Avx512Vnni : X86 {
  static constexpr Isa kIsa = Isa::kAvx512Vnni;
  static constexpr const char* kName = "avx512vnni";
  static constexpr int kColumns = 8;
  static constexpr std::uint8_t kActivationFlip = 0x80;

  using Bytes = __m512i;
  using Ints = __m512i;
  using Words = __m512i;
  using Sums = __m256i;
  using Floats = Lanes<xsimd::batch<float, xsimd::avx512bw>>;

  KQ_INLINE static Bytes load_bytes(const std::uint8_t* p) { return _mm512_loadu_si512(p); }

  template <Plane kPlane>
  KQ_INLINE static Bytes plane(const std::uint8_t* p) {
    __m512i v = load_chunk<kPlane>(p);
    constexpr const int(&kMove)[4] = kPlane.move;
    if constexpr (kMove[0] != 0 || kMove[1] != 0 || kMove[2] != 0 || kMove[3] != 0) {
      // A rotation of 32 bits moves either way; bits that leave their byte are masked away.
      constexpr int k0 = kMove[0] & 31, k1 = kMove[1] & 31, k2 = kMove[2] & 31, k3 = kMove[3] & 31;
      v = _mm512_rolv_epi32(
          v, _mm512_setr_epi32(k0, k0, k0, k0, k1, k1, k1, k1, k2, k2, k2, k2, k3, k3, k3, k3));
    }
    if constexpr (kPlane.mask != 255)
      v = _mm512_and_si512(v, _mm512_set1_epi8(static_cast<char>(kPlane.mask)));
    return v;
  }
  template <BitPlane kPlane>
  KQ_INLINE static Bytes bit_plane(const std::uint8_t* p) {
    static_assert(kPlane.at[1] == kPlane.at[0] + 2 && kPlane.at[3] == kPlane.at[2] + 2);
    std::uint32_t low, high;
    __builtin_memcpy(&low, p + kPlane.at[0], 4);
    __builtin_memcpy(&high, p + kPlane.at[2], 4);
    return _mm512_maskz_set1_epi8(low | std::uint64_t{high} << 32,
                                  static_cast<char>(1 << kPlane.up));
  }
  KQ_INLINE static Bytes merge(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
  KQ_INLINE static Bytes subtract(Bytes a, int n) {
    return _mm512_sub_epi8(a, _mm512_set1_epi8(static_cast<char>(n)));
  }
  template <int kQuarter>
  KQ_INLINE static Floats quarter(Bytes a) {
    return to_floats(_mm512_cvtepi8_epi32(_mm512_extracti32x4_epi32(a, kQuarter)));
  }

  template <int kChunk>
  KQ_INLINE static Words spread(Sums a) {
    const auto pair = [](int i) { return (4 * kChunk + i) * 0x10001; };
    const __m512i word =
        _mm512_setr_epi32(pair(0), pair(0), pair(0), pair(0), pair(1), pair(1), pair(1), pair(1),
                          pair(2), pair(2), pair(2), pair(2), pair(3), pair(3), pair(3), pair(3));
    return _mm512_permutexvar_epi16(word, _mm512_castsi256_si512(a));
  }

  KQ_INLINE static Ints zero() { return _mm512_setzero_si512(); }
  KQ_INLINE static Ints scaled_dot(Ints acc, Bytes q, Bytes a, Words s) {
    return _mm512_dpwssd_epi32(acc, _mm512_maddubs_epi16(q, a), s);
  }
  KQ_INLINE static Ints dot_start(Bytes q) {
    const __m512i flip_sum = _mm512_dpbusd_epi32(zero(), _mm512_set1_epi8(-128), q);
    return _mm512_sub_epi32(zero(), flip_sum);
  }
  KQ_INLINE static Ints dot_signed(Ints acc, Bytes q, Bytes a) {
    return _mm512_dpbusd_epi32(acc, a, q);
  }
  KQ_INLINE static Ints sums_dot(Sums w, const std::int16_t* sums) {
    return _mm512_zextsi256_si512(_mm256_madd_epi16(w, load256(sums)));
  }

  KQ_INLINE static Floats to_floats(Ints a) { return {{_mm512_cvtepi32_ps(a)}}; }
  KQ_INLINE static Floats load(const float* p) { return Floats::load(p); }
  KQ_INLINE static Floats load(const Half* p) { return {{_mm512_cvtph_ps(load256(p))}}; }
  KQ_INLINE static Floats load(const BFloat16* p) {
    return {{_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load256(p)), 16))}};
  }
  KQ_INLINE static Floats load(const std::int8_t* p) {
    return to_floats(_mm512_cvtepi8_epi32(load128(p)));
  }
  KQ_INLINE static Floats multiply_add(Floats acc, Floats a, Floats b) {
    return {{_mm512_fmadd_ps(a.v[0], b.v[0], acc.v[0])}};
  }
  KQ_INLINE static void store_half(Floats a, Half* p) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(a.v[0], _MM_FROUND_TO_NEAREST_INT));
  }
  KQ_INLINE static void store_codes(Floats a, std::uint8_t* p) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v[0])));
  }
  KQ_INLINE static float reduce_add(Floats a) {
    const __m512 v = a.v[0];
    return X86::reduce_add(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
  }

  KQ_INLINE static Floats widen(Octet a) { return {{_mm512_zextps256_ps512(a)}}; }
  template <int kChunk>
  KQ_INLINE static Floats spread_octet(Octet a) {
    constexpr int k0 = 2 * kChunk, k1 = k0 + 1;
    const __m512i lane =
        _mm512_setr_epi32(k0, k0, k0, k0, k0, k0, k0, k0, k1, k1, k1, k1, k1, k1, k1, k1);
    return {{_mm512_permutexvar_ps(lane, _mm512_castps256_ps512(a))}};
  }

  // Lanes are rows (isa/rows.hpp).
  struct Rows : RowVectors<16> {
    /// By one load, of which there are too many, and two shuffles.
    KQ_INLINE static Both both(const void* at) {
      long long pair;
      __builtin_memcpy(&pair, at, sizeof pair);
      const __m512i pairs = _mm512_set1_epi64(pair);
      return {(Int)_mm512_shuffle_epi32(pairs, _MM_PERM_CCAA),
              (Float)_mm512_shuffle_epi32(pairs, _MM_PERM_DDBB)};
    }
  };
  static constexpr bool kCentersBytes = false;
  static constexpr bool kPremultiplies = true, kPairsSums = true, kScalesInDot = false,
                        kSharesActivations = true;
  template <int kMaxCode, int kCount>
  KQ_INLINE static Rows::Int dot(Rows::Int acc, const Rows::Word* w, const std::int8_t* a) {
    // Two chains: one alone is as long as its latency times kCount.
    constexpr int kChains = kCount > 4 ? 2 : 1;
    __m512i sum[2] = {(__m512i)acc, zero()};
    unrolled<kCount>([&]<int i>() __attribute__((always_inline)) {
      sum[i % kChains] = dot_four(sum[i % kChains], (__m512i)w[i], a + 4 * i);
    });
    return (Rows::Int)(kChains == 1 ? sum[0] : _mm512_add_epi32(sum[0], sum[1]));
  }
  template <int kFrom, int kCount, int kPanels>
  KQ_INLINE static void dot_shared(Rows::Int (&sums)[kPanels], const Rows::Word (&w)[kPanels][8],
                                   const std::int8_t* a) {
    constexpr int kChains = kCount > 4 ? 2 : 1;
    __m512i chains[kPanels][2];
    for (int p = 0; p < kPanels; ++p) chains[p][0] = (__m512i)sums[p], chains[p][1] = zero();
    unrolled<kCount>([&]<int i>() __attribute__((always_inline)) {
      const __m512i four = _mm512_set1_epi32(load_int(a + 4 * (kFrom + i)));
      unrolled<kPanels>([&]<int p>() __attribute__((always_inline)) {
        __m512i& sum = chains[p][i % kChains];
        sum = _mm512_dpbusd_epi32(sum, (__m512i)w[p][kFrom + i], four);
      });
    });
    for (int p = 0; p < kPanels; ++p)
      sums[p] =
          (Rows::Int)(kChains == 1 ? chains[p][0] : _mm512_add_epi32(chains[p][0], chains[p][1]));
  }
  KQ_INLINE static Rows::Int dot_pairs(Rows::Int acc, Rows::Word pairs, const std::int16_t* a) {
    return (Rows::Int)_mm512_dpwssd_epi32((__m512i)acc, (__m512i)pairs,
                                          _mm512_set1_epi32(load_int(a)));
  }
  KQ_INLINE static Rows::Word pair(Rows::Int low, Rows::Int high) {
    return (Rows::Word)_mm512_mask_mov_epi16((__m512i)low, 0xaaaaaaaau, (__m512i)(high << 16));
  }
  KQ_INLINE static Rows::Int add_pairs(Rows::Int acc, Rows::Word a, Rows::Word b) {
    return (Rows::Int)_mm512_dpwssd_epi32((__m512i)acc, (__m512i)a, (__m512i)b);
  }
  KQ_INLINE static Rows::Float multiply_add(Rows::Float a, Rows::Float b, Rows::Float c) {
    return (Rows::Float)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
  }
  KQ_INLINE static Rows::Float row_halves(const std::uint8_t* p) {
    return (Rows::Float)_mm512_cvtph_ps(load256(p));
  }

 private:
  /// acc + codes * the four activations at a. gcc makes the broadcast an instruction of its own
  /// with a register of its own, where it can be an operand.
  KQ_INLINE static __m512i dot_four(__m512i acc, __m512i codes, const std::int8_t* a) {
    using Four = const std::int8_t[4];
    asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(codes), "m"(*reinterpret_cast<Four*>(a)));
    return acc;
  }
  KQ_INLINE static __m512i join(__m256i low, __m256i high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }
  template <Plane kPlane>
  KQ_INLINE static __m512i load_chunk(const std::uint8_t* p) {
    constexpr const int(&kAt)[4] = kPlane.at;
    if constexpr (kAt[1] == kAt[0] + 16 && kAt[2] == kAt[0] + 32 && kAt[3] == kAt[0] + 48)
      return _mm512_loadu_si512(p + kAt[0]);
    else if constexpr (kAt[2] == kAt[0] && kAt[3] == kAt[1])
      return _mm512_broadcast_i64x4(load_quarters<kPlane.at[0], kPlane.at[1]>(p));
    else
      return join(load_quarters<kPlane.at[0], kPlane.at[1]>(p),
                  load_quarters<kPlane.at[2], kPlane.at[3]>(p));
  }
};
static_assert(KernelIsa<Avx512Vnni>);

}  // namespace kquant::kernels
