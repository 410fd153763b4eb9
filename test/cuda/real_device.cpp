#include "device.hpp"

namespace kquant::test {

std::optional<cuda::Device> device() {
  auto device = cuda::Device::open();
  if (device) return std::move(*device);
  WARN("SKIPPED: " + device.error().message);
  return std::nullopt;
}

std::optional<cuda::Device> hopper() {
  auto found = device();
  if (!found) return found;
  const cuda::DeviceInfo& info = found->info();
  if (info.compute_major == 9 && info.compute_minor == 0) return found;
  WARN("SKIPPED: " + info.name + " has no wgmma");
  return std::nullopt;
}

int orders() {
  return 1;
}
void use_order(int) {}

}  // namespace kquant::test
