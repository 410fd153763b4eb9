#include "device.hpp"

namespace kquant::test {

/// By ptx/runtime.cpp, linked in place of the CUDA runtime.
bool emulated() {
  const auto found = cuda::devices();
  return found && found->front().name.starts_with("PTX of ");
}

std::optional<cuda::Device> device() {
  auto device = cuda::Device::open();
  if (device) return std::move(*device);
  WARN("SKIPPED: " + device.error().message);
  return std::nullopt;
}

std::shared_ptr<Accelerator> tensor_parallel(int devices) {
  std::string names = "cuda:0";
  for (int i = 1; i < devices; ++i) names += "," + std::to_string(i);
  const auto opened = cuda::open_devices(names);
  auto made = opened ? cuda::tensor_parallel(*opened) : fail(opened.error());
  if (made) return std::move(*made);
  WARN("SKIPPED: " + made.error().message);
  return nullptr;
}

std::optional<cuda::Device> hopper() {
  auto found = device();
  if (!found) return found;
  const cuda::DeviceInfo& info = found->info();
  if (info.compute_major == 9 && info.compute_minor == 0) return found;
  WARN("SKIPPED: " + info.name + " has no wgmma");
  return std::nullopt;
}

std::optional<cuda::Device> little_shared_memory() {
  auto found = device();
  if (!found || found->info().shared_memory < (std::size_t{100} << 10)) return found;
  WARN("SKIPPED: " + found->info().name + " has more shared memory");
  return std::nullopt;
}

int orders() {
  return 1;
}
void use_order(int) {}

}  // namespace kquant::test
