// matmul/FORMAT/ISA/LAYOUT/ROWSxCOLS/M: weights (as in a file, or packed) times M rows of
// activations, with as many threads as OMP_NUM_THREADS says; rates are of processor time with one
// thread, of elapsed time with more. matmul/FORMAT/peer:NAME/LAYOUT/ROWSxCOLS/M: the same product
// by another library. read/… and multiply/ISA are the limits of this machine.
//
// Counters: bytes of weights a second, operations a second (2 a product), and the error: root mean
// square against double precision, relative (what rounding activations to int8 costs). A result
// that is far off is no product of these matrices, and fails.
//
//     matmul_bench --shapes=4096x4096,14336x4096 --m=1,2,3,4
//     --peer=ggml=/usr/lib/x86_64-linux-gnu/libggml.so --benchmark_filter='Q4_K/avx512vnni'

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <omp.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <optional>
#include <sstream>

#include "kquant/dispatch.hpp"
#include "limits.hpp"
#include "peer.hpp"
#include "take_option.hpp"
#include "weights.hpp"

namespace kquant::bench {
namespace {

using benchmark::Counter;

/// Half of the memory, but not more than the layouts of one format in two shapes need.
Shelf& shelf() {
  static Shelf instance(
      std::min(std::size_t{5} << 30, static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
                                         static_cast<std::size_t>(sysconf(_SC_PAGE_SIZE)) / 2));
  return instance;
}

struct Inputs {
  std::vector<std::byte> bytes;
  std::vector<float> x;
  MatrixView w;
  Reference reference;
  Span2d<const float> columns(std::size_t m) const { return {x.data(), m, w.cols}; }
};

/// Weights of a type and M rows of activations, with the exact result.
std::shared_ptr<Inputs> inputs_of(TensorType type, Shape shape, std::size_t m) {
  const std::string stem = fmt::format("{}/{}", type_info(type).name, shape.text());
  return shelf().get<Inputs>(fmt::format("{}/{}", stem, m), [&] {
    auto inputs = std::make_shared<Inputs>();
    inputs->bytes = make_weights(type, shape);
    inputs->x = bell_shaped(m * shape.cols, 2);
    inputs->w = {type, shape.rows, shape.cols, inputs->bytes.data()};
    inputs->reference = Reference::of(inputs->w, inputs->columns(m));
    return std::pair(inputs, inputs->bytes.size() + 4 * inputs->x.size());
  });
}

constexpr double kMostError = 0.05;  ///< rounding of activations: about 0.01

void count(benchmark::State& state, std::size_t bytes, Shape shape, std::size_t m, double error) {
  const double products = static_cast<double>(shape.rows * shape.cols * m);
  state.counters["weights"] =
      Counter(static_cast<double>(bytes), Counter::kIsIterationInvariantRate, Counter::kIs1000);
  state.counters["ops"] =
      Counter(2 * products, Counter::kIsIterationInvariantRate, Counter::kIs1000);
  state.counters["error"] = error;
  if (!(error < kMostError))
    state.SkipWithError(fmt::format("not the product of these: error {:.3g}", error).c_str());
}

void matmul_bench(benchmark::State& state, TensorType type, Isa isa, Layout layout, Shape shape,
                  std::size_t m) {
  if (!select_isa(isa)) return state.SkipWithError("ISA not available");
  const auto inputs = inputs_of(type, shape, m);
  const auto w =
      shelf().get<Rotated>(fmt::format("{}/{}/{}", type_info(type).name, shape.text(),
                                       layout == Layout::kPacked ? "packed" : "rows"),
                           [&] {
                             auto r = std::make_shared<Rotated>(Rotated::make(inputs->w, layout));
                             return std::pair(r, r->bytes());
                           });
  std::vector<float> y(m * shape.rows);
  MatmulWorkspace workspace;
  std::size_t turn = 0;
  for (auto _ : state) {
    matmul(w->views[turn++ % w->views.size()], inputs->columns(m),
           Span2d<float>(y.data(), m, shape.rows), workspace);
    benchmark::ClobberMemory();
  }
  count(state, w->views[0].bytes(), shape, m, inputs->reference.error_of(y.data(), shape.rows, m));
}

void peer_bench(benchmark::State& state, const Peer& peer, TensorType type, bool repacked,
                Shape shape, std::size_t m) {
  const auto inputs = inputs_of(type, shape, m);
  const std::string name = fmt::format("{}/{}/{}/{}", type_info(type).name, shape.text(),
                                       peer.name(), repacked ? "repacked" : "plain");
  const auto w = shelf().get<PeerMatrix>(name, [&] {
    auto loaded = peer.load(inputs->w, repacked, copies_of(inputs->w.bytes()));
    return loaded ? std::pair(*loaded, (*loaded)->copies() * (*loaded)->bytes())
                  : std::pair(std::shared_ptr<PeerMatrix>(), std::size_t{0});
  });
  if (w == nullptr) return state.SkipWithError("no memory for the peer's copies");
  const auto product = peer.product(w, inputs->columns(m), omp_get_max_threads());
  if (!product) return state.SkipWithError(product.error().message.c_str());
  std::size_t turn = 0;
  for (auto _ : state) (*product)->compute(turn++);
  count(state, w->bytes(), shape, m,
        inputs->reference.error_of((*product)->result().data(), shape.rows, m));
}

/// Bytes of a file's rows packed a second.
void pack_bench(benchmark::State& state, TensorType type, Isa isa) {
  if (!select_isa(isa)) return state.SkipWithError("ISA not available");
  const auto inputs = inputs_of(type, {4096, 4096}, 1);
  for (auto _ : state) {
    const auto packed = PackedMatrix::pack(inputs->w);
    benchmark::DoNotOptimize(packed->bytes());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(inputs->w.bytes()));
}

void dequantize_bench(benchmark::State& state, TensorType type, Isa isa) {
  if (!select_isa(isa)) return state.SkipWithError("ISA not available");
  const std::size_t rows = 64, cols = 4096;
  const auto bytes = make_weights(type, {rows, cols});
  std::vector<float> out(rows * cols);
  for (auto _ : state) {
    dequantize_rows({type, rows, cols, bytes.data()}, 0, Span2d<float>(out.data(), rows, cols));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(rows * cols));
}

std::uint64_t read_words(const std::byte* p, std::size_t n) {
  std::uint64_t sums[4] = {};
  for (std::size_t i = 0; i + 32 <= n; i += 32)
    for (std::size_t j = 0; j < 4; ++j) {
      std::uint64_t word;
      std::memcpy(&word, p + i + 8 * j, 8);
      sums[j] ^= word;
    }
  return sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
}

/// How fast as many threads read as much memory of the same kind: what M = 1 is measured against.
void read_bench(benchmark::State& state, decltype(Limits::read) read) {
  const auto w = shelf().get<Rotated>("read", [&] {
    const auto inputs = inputs_of(TensorType::Q8_0, {4096, 4096}, 1);
    auto r = std::make_shared<Rotated>(Rotated::make(inputs->w, Layout::kPacked));
    return std::pair(r, r->bytes());
  });
  const std::size_t n_parts = static_cast<std::size_t>(omp_get_max_threads());
  const std::size_t part_bytes = w->views[0].bytes() / n_parts / 256 * 256;
  for (auto _ : state)
    for (const MatrixView& view : w->views) {
#pragma omp parallel for schedule(static)
      for (std::size_t part = 0; part < n_parts; ++part)
        benchmark::DoNotOptimize(read(view.data + part * part_bytes, part_bytes));
    }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(w->bytes()));
}

/// int8 operations a second, of all threads together.
void multiply_bench(benchmark::State& state, decltype(Limits::multiply) multiply) {
  const int n_threads = omp_get_max_threads();
  double ops = 0;
  for (auto _ : state) {
    ops = 0;
#pragma omp parallel for schedule(static) reduction(+ : ops)
    for (int thread = 0; thread < n_threads; ++thread)
      for (int i = 0; i < 16; ++i) ops += multiply();
  }
  state.counters["ops"] = Counter(ops, Counter::kIsIterationInvariantRate, Counter::kIs1000);
}

void add(const std::string& name, const std::function<void(benchmark::State&)>& run) {
  auto* const bench = benchmark::RegisterBenchmark(name.c_str(), run);
  if (omp_get_max_threads() > 1) bench->UseRealTime();
}

void add_limits() {
  std::vector<const Limits*> all;
#if defined(KQUANT_BENCH_X86)
  all = {&kAvx2Limits, &kAvx512VnniLimits};
#endif
  const Limits* best = nullptr;
  for (const Limits* limits : all)
    if (find_isa(limits->isa)) {
      best = limits;
      add(fmt::format("multiply/{}", limits->isa),
          [limits](benchmark::State& state) { multiply_bench(state, limits->multiply); });
    }
  add("read/plain", [=](benchmark::State& state) {
    read_bench(state, best != nullptr ? best->read : read_words);
  });
  if (best != nullptr)
    add("read/prefetched",
        [=](benchmark::State& state) { read_bench(state, best->read_prefetched); });
}

struct Sizes {
  std::vector<Shape> shapes = {{4096, 4096}};
  std::vector<std::size_t> ms = {1, 8, 64, 512};
};

void add_format(TensorType type, const Sizes& sizes, const std::vector<Peer>& peers) {
  const std::string format(type_info(type).name);
  const auto for_each_size = [&](const auto& fn) {
    for (const Shape shape : sizes.shapes)
      for (const std::size_t m : sizes.ms) fn(shape, m, fmt::format("{}/{}", shape.text(), m));
  };
  for (const Isa isa : available_isas()) {
    const std::string stem = format + "/" + std::string(name(isa));
    for (const Layout layout : {Layout::kRows, Layout::kPacked}) {
      if (layout == Layout::kPacked && !can_pack(type)) continue;
      const std::string where = layout == Layout::kPacked ? "/packed/" : "/rows/";
      for_each_size([&](Shape shape, std::size_t m, const std::string& size) {
        add("matmul/" + stem + where + size,
            [=](benchmark::State& state) { matmul_bench(state, type, isa, layout, shape, m); });
      });
    }
    add("dequantize/" + stem, [=](benchmark::State& state) { dequantize_bench(state, type, isa); });
    if (can_pack(type))
      add("pack/" + stem, [=](benchmark::State& state) { pack_bench(state, type, isa); });
  }
  for (const Peer& peer : peers)
    for (const bool repacked : {false, true})
      for_each_size([&](Shape shape, std::size_t m, const std::string& size) {
        if (!peer.can_load({type, shape.rows, shape.cols, nullptr}, repacked)) return;
        add(fmt::format("matmul/{}/peer:{}/{}/{}", format, peer.name(),
                        repacked ? "repacked" : "plain", size),
            [=, &peer](benchmark::State& state) {
              peer_bench(state, peer, type, repacked, shape, m);
            });
      });
}

/// "4096x4096,14336x4096", or a file with a shape a line (bench/shapes).
Result<std::vector<Shape>> read_shapes(const std::string& text) {
  std::string all = text;
  if (std::ifstream file(text); file) {
    all.clear();
    for (std::string line; std::getline(file, line);) all += line.substr(0, line.find('#')) + ",";
  }
  std::vector<Shape> shapes;
  std::istringstream list(all);
  for (std::string item; std::getline(list, item, ',');) {
    if (item.find_first_not_of(" \t\r") == std::string::npos) continue;
    std::ranges::replace(item, 'x', ' ');
    std::istringstream fields(item);
    Shape shape{};
    if (!(fields >> shape.rows >> shape.cols) || shape.rows == 0 || shape.cols == 0 ||
        shape.cols % 256 != 0)
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("--shapes: '{}' is neither a file nor ROWSxCOLS, with columns a "
                              "multiple of 256",
                              item));
    shapes.push_back(shape);
  }
  if (shapes.empty())
    return fail(ErrorCode::kInvalidArgument, fmt::format("--shapes: none in '{}'", text));
  return shapes;
}

Result<Sizes> read_sizes(int& argc, char** argv) {
  Sizes sizes;
  if (const auto text = take_option(argc, argv, "shapes")) {
    const auto shapes = read_shapes(*text);
    if (!shapes) return fail(shapes.error());
    sizes.shapes = *shapes;
  }
  if (const auto list = take_option(argc, argv, "m")) {
    sizes.ms.clear();
    std::istringstream fields(*list);
    for (std::string field; std::getline(fields, field, ',');) {
      std::size_t m = 0;
      if (!(std::istringstream(field) >> m) || m == 0)
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("--m: '{}' is no number of rows of X", field));
      sizes.ms.push_back(m);
    }
  }
  return sizes;
}

/// Those that were asked for, or the system's, if it has one.
Result<std::vector<Peer>> find_peers(int& argc, char** argv) {
  std::vector<Peer> peers;
  bool asked = false;
  while (const auto text = take_option(argc, argv, "peer")) {
    asked = true;
    if (text->empty()) continue;  // "--peer=": none
    const std::size_t equals = text->find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("--peer: '{}' is not NAME=PATH/libggml.so", *text));
    auto peer = Peer::open(text->substr(0, equals), text->substr(equals + 1));
    if (!peer) return fail(peer.error());
    for (const Peer& other : peers)
      if (peer->shares_code_with(other))
        return fail(ErrorCode::kUnsupported,
                    fmt::format("--peer: {} and {} are libraries of the same names: the second "
                                "would run the first one's code; measure them in two runs",
                                other.name(), peer->name()));
    peers.push_back(std::move(*peer));
  }
  if (!asked)
    for (const char* library : {"libggml.so", "libggml.so.0"})
      if (auto peer = Peer::open("ggml", library)) {
        peers.push_back(std::move(*peer));
        break;
      }
  return peers;
}

int run(int argc, char** argv) {
  const auto sizes = read_sizes(argc, argv);
  const auto peers = sizes ? find_peers(argc, argv) : fail(sizes.error());
  if (!peers) {
    fmt::print(stderr, "matmul_bench: {}\n", peers.error().message);
    return 1;
  }
  for (const Peer& peer : *peers) fmt::print(stderr, "peer {}: {}\n", peer.name(), peer.folder());
  add_limits();
  WeightFormats::for_each([&]<class F>() { add_format(F::type, *sizes, *peers); });
  PlainFormats::for_each([&]<class F>() { add_format(F::type, *sizes, *peers); });
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("threads", std::to_string(omp_get_max_threads()));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace kquant::bench

int main(int argc, char** argv) {
  return kquant::bench::run(argc, argv);
}
