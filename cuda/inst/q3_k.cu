#include "cuda/dequantize.cuh"

template __global__ void kquant::cuda::dequantize<kquant::Q3_K>(const kquant::Q3_K::Block*,
                                                                std::size_t, float*);
