// What a build without CUDA has of kquant/cuda.hpp: the answer that it is not there. No Device and
// no DeviceMatrix can come to be, so that their functions are never called.
#include "cuda/runtime.hpp"
#include "kquant/cuda.hpp"

namespace kquant::cuda {
namespace {

Error absent() {
  return {ErrorCode::kUnavailable,
          "no GPU can be used: this kquant was built without CUDA (cmake -D KQUANT_CUDA=ON)"};
}

}  // namespace

struct DeviceMatrix::State {};

Result<std::vector<DeviceInfo>> devices() {
  return fail(absent());
}
Result<Device> Device::open(int) {
  return fail(absent());
}
const DeviceInfo& Device::info() const {
  return queue_->info();
}
Result<std::size_t> Device::free_memory() const {
  return fail(absent());
}
std::shared_ptr<Accelerator> Device::accelerator() const {
  return nullptr;
}

Result<std::shared_ptr<Accelerator>> tensor_parallel(std::span<const Device>) {
  return fail(absent());
}

DeviceMatrix::DeviceMatrix(std::unique_ptr<State> state) : state_(std::move(state)) {}
DeviceMatrix::DeviceMatrix(DeviceMatrix&&) noexcept = default;
DeviceMatrix& DeviceMatrix::operator=(DeviceMatrix&&) noexcept = default;
DeviceMatrix::~DeviceMatrix() = default;
Result<DeviceMatrix> DeviceMatrix::upload(const Device&, const MatrixView&) {
  return fail(absent());
}
TensorType DeviceMatrix::type() const {
  return TensorType::F16;
}
std::size_t DeviceMatrix::rows() const {
  return 0;
}
std::size_t DeviceMatrix::cols() const {
  return 0;
}
std::size_t DeviceMatrix::bytes() const {
  return 0;
}
Result<void> matmul(const DeviceMatrix&, Span2d<const float>, Span2d<float>) {
  return fail(absent());
}
Result<void> dequantize(const DeviceMatrix&, NumberType, void*) {
  return fail(absent());
}
Result<void> quantize(const Device&, TensorType, Span2d<const float>, std::span<std::byte>,
                      const QuantizeOptions&) {
  return fail(absent());
}

}  // namespace kquant::cuda
