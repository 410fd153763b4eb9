// Steps 3 to 7: AVX-512 VNNI, whose vpdpbusd multiplies 64 unsigned by 64 signed bytes and adds
// each four products to an int32: 128 operations, one instruction a cycle on Zen 4.

#include <immintrin.h>

#include "kernels/isa/lanes.hpp"
#include "kquant/format/q4_k.hpp"
#include "ladder.hpp"

namespace kquant::ladder {
namespace {

using kernels::unrolled;

constexpr std::size_t kBlockBytes = sizeof(Q4_K::Block);
/// How far ahead of its use a line is asked for: some 9.5 KB, or 400 ns of reading.
constexpr std::size_t kAhead = 9728;

typedef std::uint32_t Word __attribute__((vector_size(64)));  // a number of each of 16 rows
typedef std::int32_t Int __attribute__((vector_size(64)));
typedef float Float __attribute__((vector_size(64)));

template <class V>
KQ_INLINE V load(const void* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
/// Four bytes, to every lane: an operand of vpdpbusd that costs no instruction.
KQ_INLINE __m512i four_bytes(const void* p) {
  int word;
  __builtin_memcpy(&word, p, sizeof word);
  return _mm512_set1_epi32(word);
}
/// d, dmin, scales and mins of 16 rows.
struct Factors {
  Float d, dmin;
  Int scale[8];
  __m512i mins[4];  // as pairs of int16: 0 and 2, 1 and 3, …

  KQ_INLINE static Factors of(const std::byte* block) {
    const Word words[3] = {load<Word>(block + 64), load<Word>(block + 128),
                           load<Word>(block + 192)};
    const auto scales = Q4_K::unpack_scale_words(words);
    Factors f;
    f.d = (Float)_mm512_cvtph_ps(load<__m256i>(block));
    f.dmin = (Float)_mm512_cvtph_ps(load<__m256i>(block + 32));
    unrolled<8>([&]<int j>() __attribute__((always_inline)) {
      f.scale[j] = (Int)((scales.scale[j / 4] >> (8 * (j % 4))) & 0xffu);
    });
    unrolled<4>([&]<int i>() __attribute__((always_inline)) {
      f.mins[i] = (__m512i)((scales.min[i / 2] >> (8 * (i % 2))) & 0x00ff00ffu);
    });
    return f;
  }
  /// What a block adds to 16 outputs of row m of X.
  KQ_INLINE Float finish(Int total, const Columns& c, std::size_t m, std::size_t b) const {
    const std::int16_t* const pairs = c.pairs + m * c.k / kRun + b * 8;
    __m512i min = _mm512_setzero_si512();
    unrolled<4>([&]<int i>() __attribute__((always_inline)) {
      min = _mm512_dpwssd_epi32(min, mins[i], four_bytes(pairs + 2 * i));
    });
    return (__builtin_convertvector(total, Float) * d -
            __builtin_convertvector((Int)min, Float) * dmin) *
           c.scales[m * c.k / kBlock + b];
  }
};

/// The 32 columns of a run, four to a vector.
struct Codes {
  __m512i v[8];

  KQ_INLINE static Codes of(const std::byte* run) {
    const __m512i nibble = _mm512_set1_epi8(15);
    Codes c;
    unrolled<4>([&]<int i>() __attribute__((always_inline)) {
      const __m512i bytes = load<__m512i>(run + 64 * i);
      c.v[i] = _mm512_and_si512(bytes, nibble);
      c.v[i + 4] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
    });
    return c;
  }
  KQ_INLINE Int dot(const std::int8_t* a) const {
    __m512i sum = _mm512_setzero_si512();
    unrolled<8>([&]<int i>() __attribute__((always_inline)) {
      sum = _mm512_dpbusd_epi32(sum, v[i], four_bytes(a + 4 * i));
    });
    return (Int)sum;
  }
};

template <int kBytes>
KQ_INLINE void prefetch(const std::byte* p) {
  unrolled<kBytes / 64>([&]<int i>() __attribute__((always_inline)) {
    _mm_prefetch(reinterpret_cast<const char*>(p + kAhead + 64 * i), _MM_HINT_T0);
  });
}

}  // namespace

// Step 3. One row at a time, 64 columns to a vector: 32 bytes become the codes of two runs. A block
// is four vpdpbusd and a dozen instructions around them: scales to lanes, vpmulld, and a sum across
// 16 lanes, for every row and every row of X.
void row_by_row(const Product& p) {
  const Columns& c = *p.columns;
  const std::size_t n_blocks = c.k / kBlock;
  for (std::size_t row = 0; row < p.n; ++row)
    for (std::size_t m = 0; m < c.m; ++m) {
      float sum = 0;
      for (std::size_t b = 0; b < n_blocks; ++b) {
        const auto& block =
            *reinterpret_cast<const Q4_K::Block*>(p.w + (row * n_blocks + b) * kBlockBytes);
        const auto scales = Q4_K::unpack_scales(block);
        const auto byte = [](const std::uint32_t(&words)[2]) __attribute__((always_inline)) {
          return _mm_cvtepi8_epi16(
              _mm_set_epi64x(0, static_cast<long long>(words[0] | std::uint64_t{words[1]} << 32)));
        };
        __m512i total = _mm512_setzero_si512();
        for (int pair = 0; pair < 4; ++pair) {
          const __m256i bytes = load<__m256i>(block.lo + 32 * pair);
          const __m256i nibble = _mm256_set1_epi8(15);
          const __m512i codes =
              _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_and_si256(bytes, nibble)),
                                 _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble), 1);
          const __m512i a =
              load<__m512i>(c.codes + m * c.k + b * kBlock + 64 * static_cast<std::size_t>(pair));
          const __m512i dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, a);
          const __m512i scale =
              _mm512_inserti64x4(_mm512_set1_epi32(scales.scale_at(2 * pair)),
                                 _mm256_set1_epi32(scales.scale_at(2 * pair + 1)), 1);
          total = _mm512_add_epi32(total, _mm512_mullo_epi32(dot, scale));
        }
        const __m128i mins =
            _mm_madd_epi16(byte(scales.min), load<__m128i>(c.sums + m * c.k / kRun + b * 8));
        const __m128i pairs = _mm_add_epi32(mins, _mm_srli_si128(mins, 8));
        const int min = _mm_cvtsi128_si32(pairs) + _mm_extract_epi32(pairs, 1);
        sum += (Q4_K::d(block) * static_cast<float>(_mm512_reduce_add_epi32(total)) -
                Q4_K::dmin(block) * static_cast<float>(min)) *
               c.scales[m * c.k / kBlock + b];
      }
      p.y[m * p.n + row] = sum;
    }
}

// Step 4. Lanes are rows: 16 rows are interleaved once, when the matrix is loaded, and each vector
// holds four columns of all of them. Activations are the same for all lanes and come by the load of
// vpdpbusd itself; scales and mins are vectors as they lie; nothing is summed across lanes.
void lanes_are_rows(const Product& p) {
  const Columns& c = *p.columns;
  const std::size_t n_blocks = c.k / kBlock;
  for (std::size_t row = 0; row < p.n; row += kPanel)
    for (std::size_t m = 0; m < c.m; ++m) {
      Float acc{};
      for (std::size_t b = 0; b < n_blocks; ++b) {
        const std::byte* const block = p.w + (row * n_blocks + b * kPanel) * kBlockBytes;
        const Factors f = Factors::of(block);
        Int total{};
        unrolled<8>([&]<int g>() __attribute__((always_inline)) {
          total += Codes::of(block + 256 + 256 * g).dot(c.codes + m * c.k + b * kBlock + 32 * g) *
                   f.scale[g];
        });
        acc += f.finish(total, c, m, b);
      }
      __builtin_memcpy(p.y + m * p.n + row, &acc, sizeof acc);
    }
}

namespace {

/// kPanels panels (16 rows each) against all rows of X.
template <int kPanels, bool kPrefetch>
KQ_INLINE void tiles(const Product& p) {
  const Columns& c = *p.columns;
  const std::size_t n_blocks = c.k / kBlock, panel_bytes = n_blocks * kPanel * kBlockBytes;
  for (std::size_t row = 0; row < p.n; row += kPanels * kPanel) {
    Float acc[kMostRows][kPanels] = {};
    for (std::size_t b = 0; b < n_blocks; ++b) {
      const std::byte* block[kPanels];
      Factors factors[kPanels];
      unrolled<kPanels>([&]<int i>() __attribute__((always_inline)) {
        block[i] = p.w + (row / kPanel + i) * panel_bytes + b * kPanel * kBlockBytes;
        if constexpr (kPrefetch) prefetch<256>(block[i]);
        factors[i] = Factors::of(block[i]);
      });
      Int totals[kMostRows][kPanels];
      unrolled<8>([&]<int g>() __attribute__((always_inline)) {
        Codes codes[kPanels];
        unrolled<kPanels>([&]<int i>() __attribute__((always_inline)) {
          codes[i] = Codes::of(block[i] + 256 + 256 * g);
          if constexpr (kPrefetch) prefetch<256>(block[i] + 256 + 256 * g);
        });
        const std::int8_t* const a = c.tiled + (b * 8 + g) * c.m * kRun;
        for (std::size_t m = 0; m < c.m; ++m)
          unrolled<kPanels>([&]<int i>() __attribute__((always_inline)) {
            const Int sum = codes[i].dot(a + m * kRun) * factors[i].scale[g];
            if constexpr (g == 0)
              totals[m][i] = sum;
            else
              totals[m][i] += sum;
          });
      });
      for (std::size_t m = 0; m < c.m; ++m)
        unrolled<kPanels>([&]<int i>() __attribute__((always_inline)) {
          acc[m][i] += factors[i].finish(totals[m][i], c, m, b);
        });
    }
    for (std::size_t m = 0; m < c.m; ++m)
      __builtin_memcpy(p.y + m * p.n + row, acc[m], sizeof acc[m]);
  }
}

}  // namespace

// Step 5. All rows of X meet a run while its codes are in registers: they are unpacked once for all
// of them, and W is read once. The int32 totals of each row of X wait in L1.
void tile(const Product& p) {
  tiles<1, false>(p);
}

// Step 6. The same in pages of 2 MiB, and each line of W asked for some 9.5 KB before its use. With
// 8 rows of X the processor's window is full of multiplications and the hardware prefetcher alone
// does not reach far enough.
void tile_prefetched(const Product& p) {
  tiles<1, true>(p);
}

// Step 7. Two panels at once: a row of X that is in L1 serves 32 rows of W, and two independent
// sums are in flight where there was one, in which each vpdpbusd waits for the one before. It does
// not pay on Zen 4: loads were no limit, and the window of the processor already overlaps the sums
// of several rows of X; with one row of X the second stream of weights is a loss.
void two_panels(const Product& p) {
  tiles<2, true>(p);
}

}  // namespace kquant::ladder
