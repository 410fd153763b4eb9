#include "cuda/dequantize.cuh"

template __global__ void kquant::cuda::dequantize<kquant::Q2_K>(const kquant::Q2_K::Block*,
                                                                std::size_t, float*);
