#include "cuda/dequantize.cuh"

template __global__ void kquant::cuda::dequantize<kquant::Q6_K>(const kquant::Q6_K::Block*,
                                                                std::size_t, float*);
