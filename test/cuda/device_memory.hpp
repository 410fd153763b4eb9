#pragma once
// Vectors to a device's memory and back.

#include <vector>

#include "cuda/runtime.hpp"
#include "device.hpp"

namespace kquant::test {

inline std::size_t size(int n) {
  return static_cast<std::size_t>(n);
}

template <class T>
cuda::Buffer to_device(const cuda::Device& device, const std::vector<T>& values) {
  const std::size_t bytes = values.size() * sizeof(T);
  Result<cuda::Buffer> buffer = cuda::Buffer::allocate(device.queue(), bytes, "test");
  REQUIRE(buffer);
  device.queue()->copy_to_device(buffer->as<>(), values.data(), bytes);
  REQUIRE(device.queue()->finish());
  return std::move(*buffer);
}

template <class T>
std::vector<T> to_host(const cuda::Device& device, const cuda::Buffer& buffer) {
  std::vector<T> values(buffer.bytes() / sizeof(T));
  device.queue()->copy_to_host(values.data(), buffer.as<void>(), buffer.bytes());
  REQUIRE(device.queue()->finish());
  return values;
}

}  // namespace kquant::test
