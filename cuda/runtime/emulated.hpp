#pragma once
#include <cstddef>
#include <memory>

namespace kquant::cuda {

class Queue;

/// A device that is the CPU, with so many bytes of memory. Each thread may run launches of another.
std::shared_ptr<Queue> emulated_queue(std::size_t memory, int ordinal = 0);

}  // namespace kquant::cuda
