#pragma once
// NVIDIA GPUs (compute capability 8.0 on): matrices that live there, products with them, whole
// models, and the quantizer. The same header in every build; where the library was built without
// CUDA, or there is no GPU, opening one is an error of code kUnavailable that says so.
//
//     auto gpu = cuda::Device::open();
//     auto model = Transformer::load("model.gguf", {.accelerator = gpu->accelerator()});

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/base/span2d.hpp"
#include "kquant/matmul.hpp"
#include "kquant/quantize.hpp"

namespace kquant {
class Accelerator;
}

namespace kquant::cuda {

class Queue;

struct DeviceInfo {
  int ordinal = 0;
  std::string name;
  int compute_major = 0, compute_minor = 0;
  int multiprocessors = 0;
  std::size_t memory = 0;         ///< bytes
  std::size_t shared_memory = 0;  ///< bytes of it that a block can have
};

/// All GPUs that can be used. Errors: kUnavailable (built without CUDA, no device, a driver too old
/// for the toolkit).
Result<std::vector<DeviceInfo>> devices();

/// An open GPU, with one queue of work. Copies are the same GPU; it is closed with the last of them
/// and the last matrix on it. Calls wait for their results. Not for several threads at once.
class Device {
 public:
  /// Errors: kUnavailable (as devices(); no GPU of this number; an older one than 8.0: says which).
  static Result<Device> open(int ordinal = 0);
  explicit Device(std::shared_ptr<Queue> queue) : queue_(std::move(queue)) {}

  const DeviceInfo& info() const;
  /// Bytes that are free now. Errors: kUnavailable (the GPU has failed).
  Result<std::size_t> free_memory() const;

  /// What LoadOptions takes to run a model on this GPU.
  std::shared_ptr<Accelerator> accelerator() const;

  const std::shared_ptr<Queue>& queue() const { return queue_; }

 private:
  std::shared_ptr<Queue> queue_;
};

/// GPUs by name: "cuda" (the first), "cuda:2", "cuda:0,1,2,3", or "cuda:all". Errors:
/// kInvalidArgument (another name, a GPU named twice), and those of Device::open.
Result<std::vector<Device>> open_devices(std::string_view names);

/// What LoadOptions takes to divide a model among GPUs: each has its share of the heads, of the
/// MLP's width and of the vocabulary, and sums go through NCCL (docs/cuda.md). To load a model with
/// it is an error of code kUnsupported where the model cannot be divided, which says among how many
/// it can. Errors: kUnavailable (built without NCCL, NCCL's own errors).
Result<std::shared_ptr<Accelerator>> tensor_parallel(std::span<const Device> devices);

/// For one device its own accelerator, for several tensor_parallel().
Result<std::shared_ptr<Accelerator>> accelerator_of(std::span<const Device> devices);

/// What dequantize() writes.
enum class NumberType { kF32, kF16, kBF16 };

/// A weight matrix in a GPU's memory, as large as in the file but for columns being completed to a
/// multiple of 256 and rows to one of 16. Plain types become binary16 with a power of two a row.
class DeviceMatrix {
 public:
  /// Precondition: can_compute(w.type), w.layout is kRows. Errors: kOutOfMemory (says how much was
  /// asked for and how much is free), kUnavailable (the GPU has failed).
  static Result<DeviceMatrix> upload(const Device& device, const MatrixView& w);

  DeviceMatrix(DeviceMatrix&&) noexcept;
  DeviceMatrix& operator=(DeviceMatrix&&) noexcept;
  ~DeviceMatrix();

  TensorType type() const;
  std::size_t rows() const, cols() const, bytes() const;

  struct State;
  const State& state() const { return *state_; }

 private:
  explicit DeviceMatrix(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Y = X W^T with X (M x cols) and Y (M x rows) in the CPU's memory. Activations are rounded to
/// binary16 with a power of two a row, products are summed in binary32. Errors: kInvalidArgument
/// (shapes), kOutOfMemory, kUnavailable (the GPU has failed).
Result<void> matmul(const DeviceMatrix& w, Span2d<const float> x, Span2d<float> y);

/// All weights (rows x cols), rounded from binary32 to `type`, to `out` (rows * cols numbers) in
/// the CPU's memory. F32 has the bits of dequantize_rows for block formats, but for rows with
/// weights beyond 2^15. Errors: as matmul.
Result<void> dequantize(const DeviceMatrix& w, NumberType type, void* out);

/// As kquant::quantize(), and the same bytes, for rows of any number: they go through at most
/// 90 MiB of the GPU's memory (or what one row takes). Plain types and activation formats,
/// which need no search, are rounded by the CPU. Errors: as there (the first NaN or Inf by row and
/// column), kOutOfMemory, kUnavailable (the GPU has failed).
Result<void> quantize(const Device& device, TensorType type, Span2d<const float> in,
                      std::span<std::byte> out, const QuantizeOptions& options = {});

}  // namespace kquant::cuda
