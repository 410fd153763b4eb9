#include "cuda/runtime.hpp"
#include "cuda/runtime/emulated.hpp"
#include "device.hpp"

namespace kquant::test {

bool emulated() {
  return true;
}

std::optional<cuda::Device> device() {
  return cuda::Device(cuda::emulated_queue(std::size_t{4} << 30));
}

std::shared_ptr<Accelerator> tensor_parallel(int devices) {
  std::vector<cuda::Device> opened;
  for (int i = 0; i < devices; ++i)
    opened.emplace_back(cuda::emulated_queue(std::size_t{4} << 30, i));
  return cuda::tensor_parallel(opened).value();
}

std::optional<cuda::Device> hopper() {
  return cuda::Device(cuda::emulated_queue(std::size_t{4} << 30, 0, 9));
}

std::optional<cuda::Device> little_shared_memory() {
  return cuda::Device(cuda::emulated_queue(std::size_t{4} << 30, 0, 8, 6));
}

int orders() {
  return 3;
}

void use_order(int i) {
  cuda::emulator::settings() = {.copies_early = i % 2 == 1, .order = static_cast<unsigned>(i + 1)};
}

}  // namespace kquant::test
