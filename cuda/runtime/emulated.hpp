#pragma once
#include <cstddef>
#include <memory>

namespace kquant::cuda {

class Queue;

/// A device that is the CPU, with so many bytes of memory, of compute capability 8.0, 8.6 or 9.0,
/// and a block's shared memory as that has it. Each thread may run launches of another.
std::shared_ptr<Queue> emulated_queue(std::size_t memory, int ordinal = 0, int compute_major = 8,
                                      int compute_minor = 0);

enum class Failure {
  kLaunch,  ///< the launch alone, as one of a shape that the device refuses
  kDevice   ///< everything from then on, as after an access to memory that is not there
};
/// Lets the launch fail that comes after `before` others on this emulated device, or none where
/// that is negative; to replay a recording counts as one.
void fail_launch(Queue& queue, int before, Failure failure);

}  // namespace kquant::cuda
