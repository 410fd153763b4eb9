#include "cuda/dequantize.cuh"

template __global__ void kquant::cuda::dequantize<kquant::Q5_1>(const kquant::Q5_1::Block*,
                                                                std::size_t, float*);
