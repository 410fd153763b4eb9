#pragma once
// Dequantization on a GPU, from the same format headers as on the CPU: the proof that they compile
// for a device. One thread a weight; the value is formed as in dequantize_block, without fused
// multiply-add (nvcc: -fmad=false), so the bits are the same.

#include "kquant/format/all.hpp"

namespace kquant::cuda {

template <class F>
__global__ void dequantize(const typename F::Block* blocks, std::size_t n_weights, float* out) {
  const std::size_t at = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at >= n_weights) return;
  const typename F::Block& block = blocks[at / F::kBlock];
  const int weight = static_cast<int>(at % F::kBlock), sub = weight / F::kSub;
  const auto scales = F::unpack_scales(block);
  const float d_scale = F::d(block) * static_cast<float>(scales.scale_at(sub));
  const float dmin_min =
      F::kHasMin ? F::dmin(block) * static_cast<float>(scales.min_at(sub)) : 0.0f;
  const int code = code_at<F>(bytes_of<F>(block), weight / F::kRun, weight % F::kRun);
  out[at] = code_value<F>(d_scale, dmin_min, code);
}

}  // namespace kquant::cuda
