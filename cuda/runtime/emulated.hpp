#pragma once
#include <cstddef>
#include <memory>

namespace kquant::cuda {

class Queue;

/// A device that is the CPU, with so many bytes of memory, of compute capability 8.0 or 9.0. Each
/// thread may run launches of another.
std::shared_ptr<Queue> emulated_queue(std::size_t memory, int ordinal = 0, int compute_major = 8);

}  // namespace kquant::cuda
