// Kernels on a GPU beside what the card gives: memory read and copied, cuBLAS in BF16. Writes JSON.
//
//     gpu_bench [--quick|--check] > results.json        (bench/gpu/run.sh makes a table of it)
//
// --quick: one shape of a matrix. --check: each measurement once and of little, without cuBLAS: no
// figures, but a test of this program, for compute-sanitizer or for kernels' PTX on a CPU.
//
// Every time is that of a recorded sequence of launches over several copies of the weights, 256 MB
// at least (and of what weights are dequantized to), so that nothing sits in L2, replayed until a
// twentieth of a second has passed; the median of 7. Inputs are random: zeros draw less power and
// run faster.

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "bench/give_up.hpp"
#include "bench/weights.hpp"
#include "cuda/attention.hpp"
#include "cuda/format_kernels.hpp"
#include "cuda/matrix.hpp"
#include "cuda/model/plan.hpp"
#include "cuda/quantize.hpp"
#include "cuda/runtime/nvidia.hpp"

namespace {

using namespace kquant;
using namespace kquant::cuda;

using bench::check;
using bench::give_up;
using bench::value_of;
void check(cudaError_t status) {
  if (status != cudaSuccess) give_up(cudaGetErrorString(status));
}
void check(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) give_up("cuBLAS failed");
}

bool checking = false;

std::size_t copies_of(std::size_t bytes) {
  return checking ? 2 : bench::copies_of(bytes);
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Median seconds of one run of `work`; `finish` waits for it.
template <class Work, class Finish>
double seconds_of(const Work& work, const Finish& finish) {
  const double first = now();
  work();
  finish();
  if (checking) return now() - first;
  int runs = 1;
  for (;; runs *= 2) {  // warms up, too
    const double start = now();
    for (int i = 0; i < runs; ++i) work();
    finish();
    if (now() - start > 0.05) break;
  }
  std::vector<double> times;
  for (int repeat = 0; repeat < 7; ++repeat) {
    const double start = now();
    for (int i = 0; i < runs; ++i) work();
    finish();
    times.push_back((now() - start) / runs);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// Median seconds of what `enqueue` launches.
template <class Fn>
double seconds_of_launches(const std::shared_ptr<Queue>& queue, const Fn& enqueue) {
  enqueue();  // loads the kernels
  check(queue->finish());
  queue->begin_recording();
  enqueue();
  const auto recording = value_of(queue->end_recording());
  return seconds_of([&] { queue->replay(*recording); }, [&] { check(queue->finish()); });
}

/// One line of results.
bool first_line = true;
void print(const std::string& kind, const std::string& type, std::size_t m, std::size_t rows,
           std::size_t cols, double seconds, double bytes, double products) {
  std::printf(
      "%s\n    {\"kind\": \"%s\", \"type\": \"%s\", \"m\": %zu, \"rows\": %zu, \"cols\": %zu, "
      "\"microseconds\": %.3f, \"gb_per_s\": %.1f, \"tflop_per_s\": %.2f}",
      first_line ? "" : ",", kind.c_str(), type.c_str(), m, rows, cols, seconds * 1e6,
      bytes / seconds * 1e-9, 2 * products / seconds * 1e-12);
  std::fflush(stdout);
  first_line = false;
}

__global__ void read_memory(const uint4* from, std::size_t n, unsigned* out) {
  wait_for_previous_launches();
  unsigned sum = 0;
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
#pragma unroll 8
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
    const uint4 v = from[i];
    sum ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  if (sum == 0x12345678u) *out = sum;
}

Buffer random_memory(const std::shared_ptr<Queue>& queue, std::size_t bytes) {
  Buffer buffer = value_of(Buffer::allocate(queue, bytes, "benchmark"));
  std::mt19937 random(1);
  std::vector<std::uint16_t> some(1u << 20);
  for (auto& h : some)  // halves and bfloat16 of moderate size
    h = static_cast<std::uint16_t>((random() & 0x83ffu) | 0x3800u);
  for (std::size_t at = 0; at < bytes; at += some.size() * 2)
    queue->copy_to_device(buffer.as<>() + at, some.data(), std::min(some.size() * 2, bytes - at));
  check(queue->finish());
  return buffer;
}

void measure_memory(const std::shared_ptr<Queue>& queue) {
  const std::size_t bytes = std::size_t{1} << (checking ? 16 : 30);
  const Buffer from = random_memory(queue, bytes), to = random_memory(queue, bytes);
  print("copy", "", 0, 0, 0,
        seconds_of_launches(queue, [&] { queue->copy_on_device(to.as<>(), from.as<>(), bytes); }),
        2.0 * static_cast<double>(bytes), 0);
  double best = INFINITY;
  for (const int blocks : {2, 4, 8, 16})  // of an SM
    best = std::min(best, seconds_of_launches(queue, [&] {
                      queue->launch({.x = blocks * queue->info().multiprocessors, .threads = 512},
                                    read_memory, from.as<const uint4>(), bytes / 16,
                                    to.as<unsigned>());
                    }));
  print("read", "", 0, 0, 0, best, static_cast<double>(bytes), 0);
}

void measure_cublas(const std::shared_ptr<Queue>& queue, bench::Shape shape,
                    const std::vector<std::size_t>& ms) {
  constexpr std::size_t kWorkspace = std::size_t{32} << 20;  // what cuBLAS advises for Hopper
  const std::size_t bytes = shape.rows * shape.cols * 2, copies = copies_of(bytes);
  const std::size_t most = *std::max_element(ms.begin(), ms.end());
  const Buffer w = random_memory(queue, copies * bytes),
               x = random_memory(queue, most * shape.cols * 2),
               y = random_memory(queue, most * shape.rows * 2);
  const Buffer workspace = value_of(Buffer::allocate(queue, kWorkspace, "cuBLAS"));
  cublasHandle_t handle = nullptr;
  check(cublasCreate(&handle));
  check(cublasSetStream(handle, stream_of(*queue)));
  check(cublasSetWorkspace(handle, workspace.as<void>(), kWorkspace));  // to be recorded it must
  const float one = 1, zero = 0;
  const auto i = [](std::size_t n) { return static_cast<int>(n); };
  for (const std::size_t m : ms) {
    const double seconds = seconds_of_launches(queue, [&] {
      for (std::size_t copy = 0; copy < copies; ++copy)
        check(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, i(shape.rows), i(m), i(shape.cols),
                           &one, w.as<>() + copy * bytes, CUDA_R_16BF, i(shape.cols), x.as<void>(),
                           CUDA_R_16BF, i(shape.cols), &zero, y.as<void>(), CUDA_R_16BF,
                           i(shape.rows), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
    });
    print("cublas", "BF16", m, shape.rows, shape.cols, seconds / static_cast<double>(copies),
          static_cast<double>(bytes), static_cast<double>(m * shape.rows * shape.cols));
  }
  cublasDestroy(handle);
}

/// The same matrix several times in device memory.
using Copies = std::vector<std::unique_ptr<DeviceMatrix::State>>;

Copies copies_of(const std::shared_ptr<Queue>& queue, TensorType type, bench::Shape shape) {
  const auto bytes = bench::make_weights(type, shape);
  const MatrixSlice all[] = {MatrixView{type, shape.rows, shape.cols, bytes.data()}};
  Copies copies;
  copies.push_back(value_of(upload(queue, all)));
  const DeviceMatrix::State& first = *copies.front();
  for (std::size_t i = 1; i < copies_of(first.weights.bytes()); ++i) {
    auto copy = std::make_unique<DeviceMatrix::State>();
    copy->type = first.type;
    copy->rows = first.rows;
    copy->cols = first.cols;
    copy->units = first.units;
    copy->queue = queue;
    copy->weights = value_of(Buffer::allocate(queue, first.weights.bytes(), "weights"));
    copy->row_scale = value_of(Buffer::allocate(queue, first.row_scale.bytes(), "weights"));
    queue->copy_on_device(copy->weights.as<>(), first.weights.as<>(), first.weights.bytes());
    queue->copy_on_device(copy->row_scale.as<>(), first.row_scale.as<>(), first.row_scale.bytes());
    copies.push_back(std::move(copy));
  }
  check(queue->finish());
  return copies;
}

void measure_dequantization(const std::shared_ptr<Queue>& queue, const Copies& copies,
                            Numbers numbers) {
  constexpr const char* kKinds[] = {"dequantize to F32", "dequantize to F16", "dequantize to BF16"};
  const DeviceMatrix::State& first = *copies.front();
  const std::size_t weights = first.rows * first.cols;
  const std::size_t bytes = weights * (numbers == Numbers::kF32 ? 4 : 2);
  const std::size_t places = copies_of(bytes);
  const Buffer out = value_of(Buffer::allocate(queue, places * bytes, "weights"));
  const auto index = static_cast<std::size_t>(numbers);
  const std::size_t n = std::max(copies.size(), places);
  const double seconds = seconds_of_launches(queue, [&] {
    for (std::size_t i = 0; i < n; ++i) {
      const DeviceMatrix::State& w = *copies[i % copies.size()];
      const Table table = w.table();
      queue->launch(dequantize_launch(table, numbers), format_kernels_of(w.type).dequantize[index],
                    table, out.as<>() + i % places * bytes);
    }
  });
  print(kKinds[index], std::string(type_info(first.type).name), 0, first.rows, first.cols,
        seconds / static_cast<double>(n), static_cast<double>(first.weights.bytes() + bytes), 0);
}

void measure_format(const std::shared_ptr<Queue>& queue, TensorType type, bench::Shape shape,
                    const std::vector<std::size_t>& ms) {
  const Copies copies = copies_of(queue, type, shape);
  const ProductScratch scratch = value_of(ProductScratch::make(queue));
  const std::string name(type_info(type).name);
  const auto n = static_cast<double>(copies.size());
  const auto weight_bytes = static_cast<double>(copies.front()->weights.bytes());
  const auto weights = static_cast<double>(shape.rows * shape.cols);
  for (const Numbers numbers : {Numbers::kF32, Numbers::kF16, Numbers::kBf16})
    measure_dequantization(queue, copies, numbers);
  for (const std::size_t m : ms) {
    const auto x = random_memory(queue, m * shape.cols * sizeof(float));
    auto halves = value_of(HalfRowsBuffer::make(queue, m, shape.cols));
    const Buffer y = value_of(Buffer::allocate(queue, m * shape.rows * sizeof(float), "results"));
    const auto measure = [&](const char* kind, RowOrder order, Blocks blocks = Blocks::kBest) {
      halves.rows.order = order;
      queue->launch(rows_launch(static_cast<int>(m), halves.rows.cols), convert_rows<>,
                    Convert{x.as<float>(), halves.rows});
      const double seconds = seconds_of_launches(queue, [&] {
        for (const auto& w : copies)
          multiply(*queue, *w, halves.rows, static_cast<int>(m),
                   {.y = y.as<float>(), .stride = shape.rows}, scratch, blocks);
      });
      print(kind, name, m, shape.rows, shape.cols, seconds / n, weight_bytes,
            static_cast<double>(m) * weights);
    };
    const RowOrder order = row_order_for(queue->info(), static_cast<int>(m));
    measure("matmul", order);
    // Where wgmma is used, mma.sync on the same card, too.
    if (order == RowOrder::kTiles) measure("matmul, mma.sync", RowOrder::kRows);
    // Where there is a choice, what was not chosen.
    if (m <= kMostFewColumns) {
      const Blocks chosen =
          blocks_for(queue->info(), type, shape.rows, shape.cols, static_cast<int>(m));
      measure("matmul, other blocks", order, chosen == Blocks::kFew ? Blocks::kMany : Blocks::kFew);
    }
  }
}

/// Bell-shaped weights, effort `fast`: the kernel alone, and rows from the CPU's memory and back.
void measure_quantizing(const Device& device, TensorType type, bool weighted) {
  constexpr std::size_t kCols = 4096;
  const std::size_t n_rows = checking ? 2 : 4096;
  const std::shared_ptr<Queue>& queue = device.queue();
  const QuantizeShape& shape = format_kernels_of(type).quantize;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(n_rows * kCols), importance(kCols), even(kCols);
  for (float& v : x) v = 0.02f * normal(random);
  for (float& v : importance) v = std::exp(normal(random));
  QuantizeOptions options{.effort = Effort::kFast};
  if (weighted) options.importance = importance;
  const std::size_t block = type_info(type).block_size;
  for (std::size_t at = 0; at < kCols; at += block)
    shape.even_out(weighted ? importance.data() + at : nullptr, options.importance_floor,
                   even.data() + at);
  std::vector<std::byte> packed(n_rows * row_bytes(type, kCols));
  const Buffer rows = value_of(Buffer::allocate(queue, x.size() * sizeof(float), "rows"));
  const Buffer columns = value_of(Buffer::allocate(queue, kCols * sizeof(float), "importances"));
  const Buffer out = value_of(Buffer::allocate(queue, packed.size(), "blocks"));
  const Buffer bad = value_of(Buffer::allocate(queue, sizeof(int), "flag"));
  queue->copy_to_device(rows.as<>(), x.data(), rows.bytes());
  queue->copy_to_device(columns.as<>(), even.data(), columns.bytes());
  check(queue->finish());
  const RowsToQuantize arguments{.x = rows.as<float>(),
                                 .importance = columns.as<float>(),
                                 .rows = static_cast<int>(n_rows),
                                 .stride = kCols,
                                 .blocks = kCols / block,
                                 .out = out.as<>(),
                                 .bad = bad.as<int>(),
                                 .plan = shape.plan(Effort::kFast, weighted)};
  const auto a_block = static_cast<std::size_t>(kQuantizeGroups * shape.weights);
  const std::string name = std::string(type_info(type).name) + (weighted ? " imatrix" : "");
  const auto bytes = static_cast<double>(rows.bytes() + out.bytes());
  print("quantize", name, 0, n_rows, kCols,
        seconds_of_launches(queue,
                            [&] {
                              queue->launch({.x = static_cast<int>(x.size() / a_block),
                                             .threads = kQuantizeThreads,
                                             .shared = shape.shared},
                                            shape.kernel, arguments);
                            }),
        bytes, 0);
  print("quantize, copied", name, 0, n_rows, kCols,
        seconds_of(
            [&] {
              check(quantize(device, type, {x.data(), n_rows, kCols}, packed, options));
            },
            [] {}),
        bytes, 0);
}

/// Heads of Llama 3 8B: 32 to 8, 128 dimensions; `tokens` new ones after `before`, in each of
/// `batch` sequences.
void measure_attention(const std::shared_ptr<Queue>& queue, bool q8, int tokens, int before,
                       int batch) {
  constexpr int kHeads = 32, kKvHeads = 8, kDim = 128;
  const KvLayout kv{1, kKvHeads, kDim, kDim, q8};
  const int capacity = before + tokens;
  const Buffer cache = random_memory(queue, kv.bytes(capacity) * static_cast<std::size_t>(batch));
  std::vector<PlannedPiece> pieces;
  for (int i = 0; i < batch; ++i)
    pieces.push_back({cache.as<>() + static_cast<std::size_t>(i) * kv.bytes(capacity), capacity,
                      i * tokens, before, tokens});
  const int blocks = checking ? 64 : 2 * queue->info().multiprocessors;
  const AttentionPlan plan = plan_attention(pieces, kKvHeads, kHeads / kKvHeads, 0, blocks);
  const auto to_device = [&]<class T>(const std::vector<T>& values) {
    Buffer buffer = value_of(
        Buffer::allocate(queue, std::max<std::size_t>(values.size() * sizeof(T), 16), "plan"));
    queue->copy_to_device(buffer.as<>(), values.data(), values.size() * sizeof(T));
    check(queue->finish());
    return buffer;
  };
  const Buffer tiles = to_device(plan.tiles), merges = to_device(plan.merges);
  const auto rows = static_cast<std::size_t>(tokens * batch);
  const Buffer q = random_memory(queue, rows * kHeads * kDim * 2);
  const Buffer out = random_memory(queue, rows * kHeads * kDim * 2);
  const Buffer parts = random_memory(queue, plan.grid().bytes_of_parts(kDim));
  const AttentionCall call{.tiles = tiles.as<AttentionTile>(),
                           .merges = merges.as<AttentionMerge>(),
                           .kv = kv,
                           .layer = 0,
                           .q_heads = kHeads,
                           .window = 0,
                           .soft_cap = 0,
                           .q = q.as<std::uint16_t>(),
                           .out = {.data = out.as<std::uint16_t>(), .padded = kHeads * kDim},
                           .parts = parts.as<float>()};
  const double seconds = seconds_of_launches(queue, [&] { attend(*queue, call, plan.grid()); });
  const double pairs = static_cast<double>(batch) * tokens * (before + (tokens + 1) / 2.0);
  print("attention", q8 ? "Q8_0" : "F16", static_cast<std::size_t>(tokens),
        static_cast<std::size_t>(batch), static_cast<std::size_t>(before), seconds,
        static_cast<double>(batch) * static_cast<double>(kv.bytes(capacity)),
        pairs * kHeads * 2 * kDim);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string option = argc > 1 ? argv[1] : "";
  const bool quick = option == "--quick";
  checking = option == "--check";
  if (argc > 2 || (argc == 2 && !quick && !checking)) give_up("gpu_bench [--quick|--check]");
  const Device device = value_of(Device::open());
  const std::shared_ptr<Queue>& queue = device.queue();
  int driver = 0, runtime = 0;
  check(cudaDriverGetVersion(&driver));
  check(cudaRuntimeGetVersion(&runtime));
  std::printf(
      "{\n  \"device\": \"%s\", \"compute\": \"%d.%d\", \"multiprocessors\": %d, \"memory\": %zu, "
      "\"driver\": %d, \"runtime\": %d,\n  \"results\": [",
      device.info().name.c_str(), device.info().compute_major, device.info().compute_minor,
      device.info().multiprocessors, device.info().memory, driver, runtime);
  measure_memory(queue);

  // Attention, gate + up and down of an 8B and of a 70B model.
  const std::vector<bench::Shape> shapes =
      checking ? std::vector<bench::Shape>{{192, 1024}}
      : quick  ? std::vector<bench::Shape>{{4096, 14336}}
               : std::vector<bench::Shape>{{4096, 4096}, {28672, 4096}, {4096, 14336},
                                           {8192, 8192}, {57344, 8192}, {8192, 28672}};
  // Decoding, batches, prefill.
  const auto all = checking ? std::vector<std::size_t>{1, 8, 16, 32, 100}
                            : std::vector<std::size_t>{1, 2, 4, 8, 16, 32, 64, 512, 2048, 4096};
  const std::vector<TensorType> types{
      TensorType::Q2_K, TensorType::Q3_K, TensorType::Q4_K, TensorType::Q5_K, TensorType::Q6_K,
      TensorType::Q8_0, TensorType::Q4_0, TensorType::Q4_1, TensorType::Q5_0, TensorType::Q5_1};
  for (const bench::Shape& shape : shapes) {
    if (!checking) measure_cublas(queue, shape, all);
    for (const TensorType type : types) measure_format(queue, type, shape, all);
  }
  for (const TensorType type : types)
    for (const bool weighted : {false, true}) measure_quantizing(device, type, weighted);
  for (const bool q8 : {false, true}) {
    if (checking) {
      measure_attention(queue, q8, 1, 512, 2);
      measure_attention(queue, q8, 40, 0, 1);
      continue;
    }
    for (const int before : {512, 4096, 32768}) measure_attention(queue, q8, 1, before, 1);
    measure_attention(queue, q8, 1, 4096, 16);
    measure_attention(queue, q8, 2048, 0, 1);
  }
  std::printf("\n  ]\n}\n");
}
