#include "cuda/dequantize.cuh"

template __global__ void kquant::cuda::dequantize<kquant::Q5_0>(const kquant::Q5_0::Block*,
                                                                std::size_t, float*);
