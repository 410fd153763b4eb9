// How many int8 operations a second vpdpbusd does with nothing else in the way: the limit of
// products with many rows of X.

#include <benchmark/benchmark.h>
#include <immintrin.h>

void vnni_peak(benchmark::State& state) {
  constexpr int kChains = 16, kSteps = 4096;  // more chains than the instruction's latency
  __m512i sums[kChains];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi32(state.max_iterations > 0 ? 0x01020304 : 0), b = a;
  for (auto _ : state) {
    for (int step = 0; step < kSteps; ++step)
      for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, b);
    benchmark::DoNotOptimize(a);
    benchmark::DoNotOptimize(b);
  }
  for (const __m512i& sum : sums) {
    auto value = _mm512_reduce_add_epi32(sum);
    benchmark::DoNotOptimize(value);
  }
  state.counters["ops"] =
      benchmark::Counter(2.0 * 64 * kChains * kSteps, benchmark::Counter::kIsIterationInvariantRate,
                         benchmark::Counter::kIs1000);
}
