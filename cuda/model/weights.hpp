#pragma once
// A model's weights, or a share of them, in a device's memory.

#include <cstddef>
#include <memory>
#include <vector>

#include "cuda/matrix.hpp"
#include "cuda/model/share.hpp"

namespace kquant::cuda {

/// A vector of floats; `data` is null where the model has none.
struct DeviceVector {
  Buffer buffer;
  const float* data() const { return buffer.bytes() == 0 ? nullptr : buffer.as<float>(); }
  static Result<DeviceVector> upload(const std::shared_ptr<Queue>& queue,
                                     std::span<const float> values);
};

/// Matrices that meet the same input, neighbours of one type made one: QKV and gate + up of most
/// models are a single launch.
struct DeviceProjection {
  std::vector<std::unique_ptr<DeviceMatrix::State>> parts;
  DeviceVector bias;
  std::size_t outputs = 0;
  static Result<DeviceProjection> upload(const std::shared_ptr<Queue>& queue,
                                         const ProjectionShare& projection);
};

struct DeviceLayer {
  DeviceVector attn_norm, ffn_norm, q_norm, k_norm, attn_post_norm, ffn_post_norm;
  DeviceProjection qkv, attn_output, gate_up, down;
};

struct DeviceWeights {
  DeviceProjection embedding;
  DeviceProjection separate_output;  ///< no parts where the embedding is the output matrix
  DeviceVector output_norm;
  std::vector<DeviceLayer> layers;

  const DeviceProjection& output() const {
    return separate_output.parts.empty() ? embedding : separate_output;
  }
  /// Matrices of `share`, a share of `weights`; norms are everywhere.
  static Result<DeviceWeights> upload(const std::shared_ptr<Queue>& queue, const Weights& weights,
                                      const Share& share);
};

}  // namespace kquant::cuda
