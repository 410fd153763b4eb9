// GPUs by name, and what runs a model on them.
#include <algorithm>
#include <charconv>
#include <string>

#include "kquant/cuda.hpp"

namespace kquant::cuda {
namespace {

Error no_device(std::string_view names) {
  return {
      ErrorCode::kInvalidArgument,
      "'" + std::string(names) + "' is no device, expected cuda, cuda:N, cuda:N,M,... or cuda:all"};
}

/// "0,1,2" as numbers, no two the same.
Result<std::vector<int>> ordinals(std::string_view list) {
  std::vector<int> found;
  for (const char *p = list.data(), *end = p + list.size();; ++p) {
    int ordinal = 0;
    const auto [next, error] = std::from_chars(p, end, ordinal);
    if (error != std::errc() || *p == '-' || (next != end && *next != ','))
      return fail(no_device("cuda:" + std::string(list)));
    if (std::ranges::find(found, ordinal) != found.end())
      return fail(ErrorCode::kInvalidArgument,
                  "'cuda:" + std::string(list) + "' has GPU " + std::to_string(ordinal) + " twice");
    found.push_back(ordinal);
    if (next == end) return found;
    p = next;
  }
}

}  // namespace

Result<std::vector<Device>> open_devices(std::string_view names) {
  constexpr std::string_view kPrefix = "cuda:";
  std::vector<int> wanted{0};
  if (names == "cuda:all") {
    const auto all = devices();
    if (!all) return fail(all.error());
    wanted.clear();
    for (const DeviceInfo& info : *all) wanted.push_back(info.ordinal);
  } else if (names.starts_with(kPrefix)) {
    auto listed = ordinals(names.substr(kPrefix.size()));
    if (!listed) return fail(listed.error());
    wanted = std::move(*listed);
  } else if (names != "cuda") {
    return fail(no_device(names));
  }
  std::vector<Device> opened;
  for (const int ordinal : wanted) {
    auto device = Device::open(ordinal);
    if (!device) return fail(device.error());
    opened.push_back(std::move(*device));
  }
  return opened;
}

Result<std::shared_ptr<Accelerator>> accelerator_of(std::span<const Device> devices) {
  if (devices.size() == 1) return devices.front().accelerator();
  return tensor_parallel(devices);
}

}  // namespace kquant::cuda
