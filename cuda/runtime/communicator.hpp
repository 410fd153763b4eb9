#pragma once
// What devices that compute one model together say to each other. Two implementations: NCCL
// (runtime/nccl.cu), and the CPU's threads for emulated devices (runtime/emulated.cpp); without
// NCCL there is an error in their place (runtime/without_nccl.cpp).

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "cuda/runtime.hpp"

namespace kquant::cuda {

/// One device's end. Each is used by a thread of its own: a call may wait for the other ranks'.
class Communicator {
 public:
  /// One for each queue, in their order, each of another device. Errors: kUnavailable.
  static Result<std::vector<std::shared_ptr<Communicator>>> open(
      std::span<const std::shared_ptr<Queue>> queues);
  virtual ~Communicator() = default;

  /// x (n numbers on this device) becomes the sum of all ranks' x, of the same bits everywhere. A
  /// step of the queue as a launch is: it begins after what is there already, and can be recorded,
  /// by all ranks or by none. Errors are kept: check() says the first one.
  virtual void sum(float* x, std::size_t n) = 0;

  /// To be called where this rank will not do its part: ends what waits for it. Results and
  /// communicators of all ranks are then of no use. From any thread.
  virtual void abort() = 0;

  /// Errors: kUnavailable (a sum failed, a rank gave up).
  virtual Result<void> check() = 0;
};

}  // namespace kquant::cuda
