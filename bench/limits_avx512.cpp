// The limits of this machine, with nothing else in the way: int8 operations a second of vpdpbusd,
// and bytes read.

#include "limits.hpp"

#include <benchmark/benchmark.h>
#include <immintrin.h>

void vnni_peak(benchmark::State& state) {
  constexpr int kChains = 8, kSteps = 4096;  // more chains than the instruction's latency
  const auto start = [](int value) {  // different ones, or the compiler sees that all are the same
    benchmark::DoNotOptimize(value);
    return _mm512_set1_epi32(value);
  };
  __m512i s0 = start(0), s1 = start(1), s2 = start(2), s3 = start(3), s4 = start(4), s5 = start(5),
          s6 = start(6), s7 = start(7);
  __m512i a = start(0x01020304), b = a;
  for (auto _ : state) {
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
    benchmark::DoNotOptimize(a);
    benchmark::DoNotOptimize(b);
  }
  auto sum = _mm512_reduce_add_epi32(((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7)));
  benchmark::DoNotOptimize(sum);
  state.counters["ops"] =
      benchmark::Counter(2.0 * 64 * kChains * kSteps, benchmark::Counter::kIsIterationInvariantRate,
                         benchmark::Counter::kIs1000);
}

std::uint64_t read_bytes_avx512(const std::byte* p, std::size_t n) {
  __m512i s0{}, s1{}, s2{}, s3{};
  for (std::size_t i = 0; i + 256 <= n; i += 256) {
    s0 ^= _mm512_loadu_si512(p + i);
    s1 ^= _mm512_loadu_si512(p + i + 64);
    s2 ^= _mm512_loadu_si512(p + i + 128);
    s3 ^= _mm512_loadu_si512(p + i + 192);
  }
  return static_cast<std::uint64_t>(_mm512_reduce_add_epi64((s0 ^ s1) ^ (s2 ^ s3)));
}
