#pragma once
#include <cstddef>
#include <memory>

namespace kquant::cuda {

class Queue;

/// A device that is the CPU, with so many bytes of memory.
std::shared_ptr<Queue> emulated_queue(std::size_t memory);

}  // namespace kquant::cuda
