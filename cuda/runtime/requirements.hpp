#pragma once
// What a GPU and its driver must be, and what is said where they are not: apart from the runtime
// that finds them, so that it can be tested without either.

#include "kquant/cuda.hpp"

namespace kquant::cuda {

/// Where the runtime has found that the driver will not do. Versions as it gives them, 12080 for
/// 12.8; a driver of 0: there is none.
Error insufficient_driver(int driver, int toolkit);

/// Where there is no GPU of this number, but `count` others.
Error no_such_gpu(int ordinal, int count);

/// Errors: kUnavailable: an older one than 8.0.
Result<void> check_capability(const DeviceInfo& device);

/// Those of `found` that can be used. Errors: kUnavailable: none can.
Result<std::vector<DeviceInfo>> usable_among(std::vector<DeviceInfo> found);

}  // namespace kquant::cuda
