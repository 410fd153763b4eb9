#include "cuda/runtime/requirements.hpp"

namespace kquant::cuda {
namespace {

constexpr int kLeastMajor = 8;

std::string dotted(int major, int minor) {
  return std::to_string(major) + "." + std::to_string(minor);
}
std::string version(int v) {
  return dotted(v / 1000, v % 1000 / 10);
}

std::string name_of(const DeviceInfo& device) {
  return "GPU " + std::to_string(device.ordinal) + " (" + device.name +
         ") has compute capability " + dotted(device.compute_major, device.compute_minor);
}

}  // namespace

Error insufficient_driver(int driver, int toolkit) {
  if (driver == 0) return {ErrorCode::kUnavailable, "no NVIDIA GPU was found: there is no driver"};
  return {ErrorCode::kUnavailable, "the NVIDIA driver is for CUDA " + version(driver) +
                                       ", but this build needs " + version(toolkit) +
                                       ": update the driver"};
}

Error no_such_gpu(int ordinal, int count) {
  return {ErrorCode::kUnavailable,
          "there is no GPU " + std::to_string(ordinal) +
              (count == 1 ? ", only GPU 0" : ", only 0 to " + std::to_string(count - 1))};
}

Result<void> check_capability(const DeviceInfo& device) {
  if (device.compute_major >= kLeastMajor) return {};
  return fail(ErrorCode::kUnavailable, name_of(device) + ", but 8.0 or newer is needed");
}

Result<std::vector<DeviceInfo>> usable_among(std::vector<DeviceInfo> found) {
  std::string too_old;
  for (const DeviceInfo& device : found)
    if (!check_capability(device)) too_old += (too_old.empty() ? ": " : ", ") + name_of(device);
  std::erase_if(found, [](const DeviceInfo& device) { return !check_capability(device); });
  if (found.empty())
    return fail(ErrorCode::kUnavailable,
                "no NVIDIA GPU of compute capability 8.0 or newer was found" + too_old);
  return found;
}

}  // namespace kquant::cuda
