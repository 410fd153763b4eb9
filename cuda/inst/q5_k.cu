#include "cuda/dequantize.cuh"

template __global__ void kquant::cuda::dequantize<kquant::Q5_K>(const kquant::Q5_K::Block*,
                                                                std::size_t, float*);
