// matmul/FORMAT/ISA/LAYOUT/ROWSxCOLS/M: weights (as in a file, or packed) times M rows of
// activations, with as many threads as OMP_NUM_THREADS says; rates are of processor time with one
// thread, of elapsed time with more. Counters: bytes of weights a second (M = 1 is bound by memory;
// the read probe is the limit) and operations a second (2 per product).
//
//     matmul_bench --shapes=bench/shapes/llama_8b.txt --m=1,2,3,4
//     --benchmark_filter='Q4_K/avx512vnni'

#include <benchmark/benchmark.h>
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "kquant/dispatch.hpp"
#include "kquant/format/all.hpp"
#include "kquant/matmul.hpp"
#include "limits.hpp"

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

/// Weights that the caches cannot hold: what decoding reads is never there from the token before.
constexpr std::size_t kRotatedBytes = std::size_t{256} << 20;

/// The same weights several times, in one layout.
struct Rotated {
  std::vector<std::byte> bytes;
  std::vector<PackedMatrix> packed;
  std::vector<MatrixView> views;

  template <class F>
  static Rotated make(Shape shape, Layout layout) {
    const auto one = weights<F>(shape.rows, shape.cols);
    const std::size_t n = kRotatedBytes / one.size() + 2;
    Rotated r;
    if (layout == Layout::kRows) r.bytes.resize(n * one.size());
    for (std::size_t i = 0; i < n; ++i) {
      MatrixView view{F::type, shape.rows, shape.cols, one.data()};
      if (layout == Layout::kRows) {
        std::byte* const copy = r.bytes.data() + i * one.size();
        std::ranges::copy(one, copy);
        view.data = copy;
      } else {
        r.packed.push_back(std::move(*PackedMatrix::pack(view)));
        view = r.packed.back().view();
      }
      r.views.push_back(view);
    }
    return r;
  }
};

template <class F>
void matmul_bench(benchmark::State& state, Isa isa, Layout layout, Shape shape, std::size_t m) {
  if (!select_isa(isa)) return state.SkipWithError("ISA not available");
  const Rotated w = Rotated::make<F>(shape, layout);
  std::vector<float> x(m * shape.cols), y(m * shape.rows);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) - 8.0f;
  MatmulWorkspace workspace;
  std::size_t turn = 0;
  for (auto _ : state) {
    matmul(w.views[turn++ % w.views.size()], Span2d<const float>(x.data(), m, shape.cols),
           Span2d<float>(y.data(), m, shape.rows), workspace);
    benchmark::ClobberMemory();
  }
  using benchmark::Counter;
  const double products = static_cast<double>(shape.rows * shape.cols * m);
  state.counters["weights"] = Counter(static_cast<double>(w.views[0].bytes()),
                                      Counter::kIsIterationInvariantRate, Counter::kIs1000);
  state.counters["ops"] =
      Counter(2 * products, Counter::kIsIterationInvariantRate, Counter::kIs1000);
}

/// Bytes of a file's rows packed a second.
template <class F>
void pack_bench(benchmark::State& state, Isa isa) {
  if (!select_isa(isa)) return state.SkipWithError("ISA not available");
  const Shape shape{4096, 4096};
  const auto bytes = weights<F>(shape.rows, shape.cols);
  for (auto _ : state) {
    const auto packed = PackedMatrix::pack({F::type, shape.rows, shape.cols, bytes.data()});
    benchmark::DoNotOptimize(packed->bytes());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes.size()));
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

std::uint64_t read_bytes(const std::byte* p, std::size_t n) {
  std::uint64_t sums[4] = {};
  for (std::size_t i = 0; i + 32 <= n; i += 32)
    for (std::size_t j = 0; j < 4; ++j) {
      std::uint64_t word;
      std::memcpy(&word, p + i + 8 * j, 8);
      sums[j] ^= word;
    }
  return sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
}

/// How fast as many threads read as much memory: what M = 1 is measured against.
void read_probe(benchmark::State& state) {
  const Rotated w =
      Rotated::make<Q8_0>({4096, 4096}, Layout::kPacked);  // memory as weights have it
  auto* read = read_bytes;
#if defined(KQUANT_BENCH_VNNI)
  if (find_isa("avx512vnni")) read = read_bytes_avx512;
#endif
  const std::size_t n_parts = static_cast<std::size_t>(omp_get_max_threads());
  const std::size_t part_bytes = w.views[0].bytes() / n_parts / 256 * 256;
  for (auto _ : state)
    for (const MatrixView& view : w.views) {
#pragma omp parallel for schedule(static)
      for (std::size_t part = 0; part < n_parts; ++part)
        benchmark::DoNotOptimize(read(view.data + part * part_bytes, part_bytes));
    }
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(w.views.size() * w.views[0].bytes()));
}

void add(const std::string& name, const std::function<void(benchmark::State&)>& run) {
  auto* const bench = benchmark::RegisterBenchmark(name.c_str(), run);
  if (omp_get_max_threads() > 1) bench->UseRealTime();
}

template <class F>
void add_format(const std::vector<Shape>& shapes, const std::vector<std::size_t>& ms) {
  for (const Isa isa : available_isas()) {
    const std::string stem = std::string(F::name) + "/" + std::string(name(isa));
    for (const Layout layout : {Layout::kRows, Layout::kPacked}) {
      if (layout == Layout::kPacked && !can_pack(F::type)) continue;
      const std::string where = layout == Layout::kPacked ? "/packed/" : "/rows/";
      for (const Shape shape : shapes)
        for (const std::size_t m : ms) {
          const std::string size = std::to_string(shape.rows) + "x" + std::to_string(shape.cols);
          add("matmul/" + stem + where + size + "/" + std::to_string(m),
              [=](benchmark::State& state) { matmul_bench<F>(state, isa, layout, shape, m); });
        }
    }
    add("dequantize/" + stem, [=](benchmark::State& state) { dequantize_bench<F>(state, isa); });
    if (can_pack(F::type))
      add("pack/" + stem, [=](benchmark::State& state) { pack_bench<F>(state, isa); });
  }
}

/// Takes "--NAME=VALUE" out of the arguments.
std::optional<std::string> take_option(int& argc, char** argv, const std::string& name) {
  const std::string start = "--" + name + "=";
  for (int i = 1; i < argc; ++i)
    if (const std::string argument = argv[i]; argument.starts_with(start)) {
      std::copy(argv + i + 1, argv + argc + 1, argv + i);
      --argc;
      return argument.substr(start.size());
    }
  return std::nullopt;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<Shape> shapes = {{4096, 4096}};
  if (const auto path = take_option(argc, argv, "shapes")) shapes = read_shapes(*path);
  std::vector<std::size_t> ms = {1, 8, 64, 512};
  if (const auto list = take_option(argc, argv, "m")) {
    ms.clear();
    std::istringstream fields(*list);
    for (std::string m; std::getline(fields, m, ',');) ms.push_back(std::stoul(m));
  }
  add("read_probe", read_probe);
#if defined(KQUANT_BENCH_VNNI)
  if (find_isa("avx512vnni")) add("vnni_peak", vnni_peak);  // of one thread
#endif
  WeightFormats::for_each([&]<class F>() { add_format<F>(shapes, ms); });
  PlainFormats::for_each([&]<class F>() { add_format<F>(shapes, ms); });
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("threads", std::to_string(omp_get_max_threads()));
  benchmark::RunSpecifiedBenchmarks();
}
