#include "device.hpp"

namespace kquant::test {

std::optional<cuda::Device> device() {
  auto device = cuda::Device::open();
  if (device) return std::move(*device);
  WARN("SKIPPED: " + device.error().message);
  return std::nullopt;
}

int orders() {
  return 1;
}
void use_order(int) {}

}  // namespace kquant::test
