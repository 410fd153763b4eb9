#include "cuda/format_kernels.cuh"

template const kquant::cuda::FormatKernels& kquant::cuda::format_kernels<kquant::Q8_0>();
