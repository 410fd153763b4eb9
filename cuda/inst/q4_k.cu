#include "cuda/dequantize.cuh"

template __global__ void kquant::cuda::dequantize<kquant::Q4_K>(const kquant::Q4_K::Block*,
                                                                std::size_t, float*);
