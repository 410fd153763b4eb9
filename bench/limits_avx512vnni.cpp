// vpdpbusd, one zmm a cycle on Zen 4.

#include <benchmark/benchmark.h>
#include <immintrin.h>

#include "limits.hpp"

namespace kquant::bench {
namespace {

double multiply() {
  constexpr int kChains = 8, kSteps = 4096;  // more chains than the instruction's latency
  const auto start = [](int value) {  // different ones, or the compiler sees that all are the same
    benchmark::DoNotOptimize(value);
    return _mm512_set1_epi32(value);
  };
  __m512i s0 = start(0), s1 = start(1), s2 = start(2), s3 = start(3), s4 = start(4), s5 = start(5),
          s6 = start(6), s7 = start(7);
  const __m512i a = start(0x01020304), b = start(0x04030201);
  for (int step = 0; step < kSteps; ++step) {
    s0 = _mm512_dpbusd_epi32(s0, a, b);
    s1 = _mm512_dpbusd_epi32(s1, a, b);
    s2 = _mm512_dpbusd_epi32(s2, a, b);
    s3 = _mm512_dpbusd_epi32(s3, a, b);
    s4 = _mm512_dpbusd_epi32(s4, a, b);
    s5 = _mm512_dpbusd_epi32(s5, a, b);
    s6 = _mm512_dpbusd_epi32(s6, a, b);
    s7 = _mm512_dpbusd_epi32(s7, a, b);
  }
  auto sum = _mm512_reduce_add_epi32(((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7)));
  benchmark::DoNotOptimize(sum);
  return 2.0 * 64 * kChains * kSteps;
}

template <bool kPrefetch>
std::uint64_t read(const std::byte* p, std::size_t n) {
  constexpr std::size_t kAhead = 8192;
  __m512i s0{}, s1{}, s2{}, s3{};
  for (std::size_t i = 0; i + 256 <= n; i += 256) {
    if constexpr (kPrefetch)
      for (std::size_t line = 0; line < 256; line += 64)
        _mm_prefetch(reinterpret_cast<const char*>(p + i + kAhead + line), _MM_HINT_T0);
    s0 ^= _mm512_loadu_si512(p + i);
    s1 ^= _mm512_loadu_si512(p + i + 64);
    s2 ^= _mm512_loadu_si512(p + i + 128);
    s3 ^= _mm512_loadu_si512(p + i + 192);
  }
  return static_cast<std::uint64_t>(_mm512_reduce_add_epi64((s0 ^ s1) ^ (s2 ^ s3)));
}

}  // namespace

const Limits kAvx512VnniLimits = {"avx512vnni", multiply, read<false>, read<true>};

}  // namespace kquant::bench
