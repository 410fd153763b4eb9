// matmul/FORMAT/ISA/ROWSxCOLS/M: packed weights times M rows of activations, with as many threads
// as OMP_NUM_THREADS says; rates are of processor time with one thread, of elapsed time with more.
// Counters: bytes of weights a second (M = 1 is bound by memory; the read probe is the limit) and
// operations a second (2 per product).
//
//     matmul_bench --shapes=bench/shapes/llama_8b.txt --benchmark_filter='Q4_K/avx512vnni.*/1$'

#include <benchmark/benchmark.h>
#include <omp.h>

#include <cstring>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "kquant/dispatch.hpp"
#include "kquant/format/all.hpp"
#include "kquant/matmul.hpp"

namespace {

using namespace kquant;

struct Shape {
  std::size_t rows, cols;
};

std::vector<Shape> read_shapes(const std::string& path) {
  std::vector<Shape> shapes;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line.substr(0, line.find('#')));
    if (Shape shape{}; fields >> shape.rows >> shape.cols) shapes.push_back(shape);
  }
  return shapes;
}

/// Any codes and scales will do; super-block factors are small and finite.
template <class F>
std::vector<std::byte> weights(std::size_t rows, std::size_t cols) {
  std::vector<std::byte> bytes(rows * row_bytes(F::type, cols));
  std::mt19937_64 random(1);
  for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
    const std::uint64_t word = random() & 0x3bff'3bff'3bff'3bffu;  // finite as F16 and BF16
    std::memcpy(bytes.data() + at, &word, 8);
  }
  if constexpr (BlockFormat<F>)
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(typename F::Block))
      F::set_d(*reinterpret_cast<typename F::Block*>(bytes.data() + at), 0.01f, 0.005f);
  return bytes;
}

template <class F>
void matmul_bench(benchmark::State& state, Isa isa, Shape shape, std::size_t m) {
  if (!select_isa(isa)) return state.SkipWithError("ISA not available");
  const auto bytes = weights<F>(shape.rows, shape.cols);
  const MatrixView w{F::type, shape.rows, shape.cols, bytes.data()};
  std::vector<float> x(m * shape.cols), y(m * shape.rows);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) - 8.0f;
  MatmulWorkspace workspace;
  for (auto _ : state) {
    matmul(w, Span2d<const float>(x.data(), m, shape.cols), Span2d<float>(y.data(), m, shape.rows),
           workspace);
    benchmark::ClobberMemory();
  }
  using benchmark::Counter;
  const double products = static_cast<double>(shape.rows * shape.cols * m);
  state.counters["weights"] =
      Counter(static_cast<double>(w.bytes()), Counter::kIsIterationInvariantRate, Counter::kIs1000);
  state.counters["ops"] =
      Counter(2 * products, Counter::kIsIterationInvariantRate, Counter::kIs1000);
}

template <class F>
void dequantize_bench(benchmark::State& state, Isa isa) {
  if (!select_isa(isa)) return state.SkipWithError("ISA not available");
  const std::size_t rows = 64, cols = 4096;
  const auto bytes = weights<F>(rows, cols);
  std::vector<float> out(rows * cols);
  for (auto _ : state) {
    dequantize_rows({F::type, rows, cols, bytes.data()}, 0, Span2d<float>(out.data(), rows, cols));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(rows * cols));
}

/// How fast one thread reads memory: what M = 1 is measured against.
void read_probe(benchmark::State& state) {
  std::vector<std::uint64_t> memory(std::size_t{1} << 24, 1);
  for (auto _ : state) {
    std::uint64_t sums[8] = {};
    for (std::size_t i = 0; i < memory.size(); i += 8)
      for (std::size_t j = 0; j < 8; ++j) sums[j] += memory[i + j];
    benchmark::DoNotOptimize(sums);
  }
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(memory.size() * sizeof(memory[0])));
}

template <class F>
void add_format(const std::vector<Shape>& shapes) {
  for (const Isa isa : available_isas()) {
    const std::string stem = std::string(F::name) + "/" + std::string(name(isa));
    for (const Shape shape : shapes)
      for (const std::size_t m : {1u, 8u, 64u, 512u}) {
        const std::string size = std::to_string(shape.rows) + "x" + std::to_string(shape.cols);
        auto* bench = benchmark::RegisterBenchmark(
            ("matmul/" + stem + "/" + size + "/" + std::to_string(m)).c_str(),
            [=](benchmark::State& state) { matmul_bench<F>(state, isa, shape, m); });
        if (omp_get_max_threads() > 1) bench->UseRealTime();
      }
    benchmark::RegisterBenchmark(("dequantize/" + stem).c_str(),
                                 [=](benchmark::State& state) { dequantize_bench<F>(state, isa); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<Shape> shapes = {{4096, 4096}};
  const std::string option = "--shapes=";
  for (int i = 1; i < argc; ++i)
    if (std::string(argv[i]).starts_with(option)) {
      shapes = read_shapes(std::string(argv[i]).substr(option.size()));
      for (int j = i; j + 1 < argc; ++j) argv[j] = argv[j + 1];
      --argc;
      break;
    }
  benchmark::RegisterBenchmark("read_probe", read_probe);
  WeightFormats::for_each([&]<class F>() { add_format<F>(shapes); });
  PlainFormats::for_each([&]<class F>() { add_format<F>(shapes); });
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
