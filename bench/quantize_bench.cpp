// Weights per second of quantize() and dequantize() for every format, on one thread.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kquant/format/all.hpp"
#include "kquant/quantize.hpp"

namespace {

using namespace kquant;

constexpr std::size_t kRows = 16, kCols = 4096;

/// Bell-shaped numbers: sums of four uniform ones.
std::vector<float> weights() {
  std::vector<float> x(kRows * kCols);
  std::uint64_t state = 1;
  for (float& value : x) {
    int sum = 0;
    for (int i = 0; i < 4; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      sum += static_cast<int>(state >> 48) - 32768;
    }
    value = static_cast<float>(sum) * 0x1p-20f;
  }
  return x;
}

void count_weights(benchmark::State& state) {
  state.counters["weights/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * kRows * kCols, benchmark::Counter::kIsRate);
}

void quantize_rows(benchmark::State& state, TensorType type, bool with_importance) {
  const auto x = weights();
  std::vector<float> importance(kCols);
  for (std::size_t k = 0; k < kCols; ++k) importance[k] = 1.0f / static_cast<float>(1 + k % 37);
  std::vector<std::byte> packed(kRows * row_bytes(type, kCols));
  QuantizeOptions options;
  options.threads = 1;
  if (with_importance) options.importance = importance;
  for (auto _ : state)
    benchmark::DoNotOptimize(quantize(type, {x.data(), kRows, kCols}, packed, options));
  count_weights(state);
}

void dequantize_rows(benchmark::State& state, TensorType type) {
  const auto x = weights();
  std::vector<float> y(x.size());
  std::vector<std::byte> packed(kRows * row_bytes(type, kCols));
  if (!quantize(type, {x.data(), kRows, kCols}, packed)) return;
  for (auto _ : state) benchmark::DoNotOptimize(dequantize(type, packed, {y.data(), kRows, kCols}));
  count_weights(state);
}

const bool kRegistered = [] {
  const auto add = []<class F>() {
    const std::string name(F::name);
    benchmark::RegisterBenchmark(("quantize/" + name).c_str(), quantize_rows, F::type, false);
    benchmark::RegisterBenchmark(("quantize/" + name + "/imatrix").c_str(), quantize_rows, F::type,
                                 true);
    benchmark::RegisterBenchmark(("dequantize/" + name).c_str(), dequantize_rows, F::type);
  };
  WeightFormats::for_each(add);
  ActivationFormats::for_each(add);
  return true;
}();

}  // namespace

BENCHMARK_MAIN();
