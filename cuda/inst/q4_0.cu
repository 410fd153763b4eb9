#include "cuda/dequantize.cuh"

template __global__ void kquant::cuda::dequantize<kquant::Q4_0>(const kquant::Q4_0::Block*,
                                                                std::size_t, float*);
