#include "cuda/dequantize.cuh"

template __global__ void kquant::cuda::dequantize<kquant::Q4_1>(const kquant::Q4_1::Block*,
                                                                std::size_t, float*);
