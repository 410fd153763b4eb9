// Weights per second of quantize() and dequantize(), on one thread; names are
//
//     quantize/FORMAT/EFFORT/ISA[/imatrix]      dequantize/FORMAT
//     quantize/FORMAT/peer[/imatrix]            another library's, with
//     --peer=ggml=/path/to/libggml.so
//
//     quantize_bench --peer=… --benchmark_filter='Q4_K' --benchmark_repetitions=5
//         --benchmark_enable_random_interleaving=true --benchmark_out=r.json
//     bench/quantize_table.py r.json

#include <benchmark/benchmark.h>

#include <cmath>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "bench/peer_quantizer.hpp"
#include "bench/take_option.hpp"
#include "kquant/dispatch.hpp"
#include "kquant/format/all.hpp"
#include "kquant/quantize.hpp"

namespace {

using namespace kquant;

constexpr std::size_t kRows = 16, kCols = 4096;

struct Input {
  std::vector<float> x, importance;
  std::vector<std::byte> packed;

  explicit Input(TensorType type) : x(kRows * kCols), importance(kCols) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (float& v : x) v = 0.02f * normal(random);
    for (float& v : importance) v = std::exp(normal(random));
    packed.resize(kRows * row_bytes(type, kCols));
  }
  Span2d<const float> rows() const { return {x.data(), kRows, kCols}; }
};

void count_weights(benchmark::State& state) {
  state.counters["weights/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * kRows * kCols, benchmark::Counter::kIsRate);
}

void quantize_rows(benchmark::State& state, TensorType type, Effort effort, Isa isa,
                   bool weighted) {
  Input in(type);
  const Isa before = current_isa();
  if (!select_isa(isa)) return state.SkipWithError("no such ISA here");
  QuantizeOptions options;
  options.threads = 1;
  options.effort = effort;
  if (weighted) options.importance = in.importance;
  for (auto _ : state) benchmark::DoNotOptimize(quantize(type, in.rows(), in.packed, options));
  (void)select_isa(before);
  count_weights(state);
}

void quantize_by_peer(benchmark::State& state, const bench::PeerQuantizer& peer, TensorType type,
                      bool weighted) {
  Input in(type);
  const std::span<const float> importance = weighted ? in.importance : std::span<const float>{};
  for (auto _ : state) {
    peer.quantize(type, in.rows(), in.packed, importance);
    benchmark::ClobberMemory();
  }
  count_weights(state);
}

void dequantize_rows(benchmark::State& state, TensorType type) {
  Input in(type);
  if (!quantize(type, in.rows(), in.packed)) return state.SkipWithError("cannot quantize");
  for (auto _ : state)
    benchmark::DoNotOptimize(dequantize(type, in.packed, {in.x.data(), kRows, kCols}));
  count_weights(state);
}

void add_format(TensorType type, const bench::PeerQuantizer* peer) {
  const std::string format(type_info(type).name);
  for (const bool weighted : {false, true}) {
    const std::string end = weighted ? "/imatrix" : "";
    for (const Effort effort : {Effort::kFast, Effort::kBest})
      for (const Isa isa : available_isas())
        benchmark::RegisterBenchmark(
            fmt::format("quantize/{}/{}/{}{}", format, effort == Effort::kFast ? "fast" : "best",
                        name(isa), end)
                .c_str(),
            quantize_rows, type, effort, isa, weighted);
    if (peer)
      benchmark::RegisterBenchmark(
          fmt::format("quantize/{}/peer{}", format, end).c_str(),
          [=](benchmark::State& state) { quantize_by_peer(state, *peer, type, weighted); });
  }
  benchmark::RegisterBenchmark(("dequantize/" + format).c_str(), dequantize_rows, type);
}

}  // namespace

int main(int argc, char** argv) {
  const auto path = bench::take_option(argc, argv, "peer");
  std::optional<bench::PeerQuantizer> peer;
  if (path && !path->empty()) {
    auto opened = bench::PeerQuantizer::open(*path);
    if (!opened) {
      fmt::print(stderr, "{}\n", opened.error().message);
      return 1;
    }
    peer = *opened;
  }
  WeightFormats::for_each([&]<class F>() { add_format(F::type, peer ? &*peer : nullptr); });
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
