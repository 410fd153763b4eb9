#pragma once
// Cosines and sines of positions in a device's memory, as rotate.cuh reads them.

#include "cuda/runtime.hpp"
#include "model/rope.hpp"

namespace kquant::cuda {

class DeviceRope {
 public:
  explicit DeviceRope(RopeFrequencies rope) : rope_(std::move(rope)) {}

  /// Has rows for positions 0 … count - 1. True where the table moved: recorded launches have the
  /// old address.
  Result<bool> extend(const std::shared_ptr<Queue>& queue, int count);
  const float* data() const { return buffer_.as<float>(); }
  int pairs() const { return static_cast<int>(rope_.frequencies.size()); }

 private:
  RopeFrequencies rope_;
  int count_ = 0;
  Buffer buffer_;
};

}  // namespace kquant::cuda
