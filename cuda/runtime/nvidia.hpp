#pragma once
// What a Queue is on a GPU, for what else works in its order.

#include <cuda_runtime.h>

#include "cuda/runtime.hpp"

namespace kquant::cuda {

cudaStream_t stream_of(const Queue& queue);

}  // namespace kquant::cuda
