// vpmaddubsw and the vpaddw after it: what any sum of more than two int8 products needs at least.

#include <benchmark/benchmark.h>
#include <immintrin.h>

#include "limits.hpp"

namespace kquant::bench {
namespace {

double multiply() {
  constexpr int kChains = 8, kSteps = 4096;
  const auto start = [](int value) {  // different ones, or the compiler sees that all are the same
    benchmark::DoNotOptimize(value);
    return _mm256_set1_epi32(value);
  };
  const __m256i a = start(0x01020304);
  __m256i b = start(0x04030201);
  const auto next = [&](__m256i sum) __attribute__((always_inline)) {
    asm volatile("" : "+x"(b));  // as if b had changed, or the product would leave the loop
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b));
  };
  __m256i s0 = start(0), s1 = start(1), s2 = start(2), s3 = start(3), s4 = start(4), s5 = start(5),
          s6 = start(6), s7 = start(7);
  for (int step = 0; step < kSteps; ++step) {
    s0 = next(s0);
    s1 = next(s1);
    s2 = next(s2);
    s3 = next(s3);
    s4 = next(s4);
    s5 = next(s5);
    s6 = next(s6);
    s7 = next(s7);
  }
  auto sum = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7));
  benchmark::DoNotOptimize(sum);
  return 2.0 * 32 * kChains * kSteps;
}

template <bool kPrefetch>
std::uint64_t read(const std::byte* p, std::size_t n) {
  constexpr std::size_t kAhead = 8192;
  __m256i sums[8] = {};
  for (std::size_t i = 0; i + 256 <= n; i += 256) {
    if constexpr (kPrefetch)
      for (std::size_t line = 0; line < 256; line += 64)
        _mm_prefetch(reinterpret_cast<const char*>(p + i + kAhead + line), _MM_HINT_T0);
    for (std::size_t j = 0; j < 8; ++j)
      sums[j] = _mm256_xor_si256(
          sums[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i + 32 * j)));
  }
  for (int j = 1; j < 8; ++j) sums[0] = _mm256_xor_si256(sums[0], sums[j]);
  return static_cast<std::uint64_t>(
      _mm256_extract_epi64(sums[0], 0) ^ _mm256_extract_epi64(sums[0], 1) ^
      _mm256_extract_epi64(sums[0], 2) ^ _mm256_extract_epi64(sums[0], 3));
}

}  // namespace

const Limits kAvx2Limits = {"avx2", multiply, read<false>, read<true>};

}  // namespace kquant::bench
