#include "cuda/model/weights.hpp"

#include "cuda/layout.hpp"

namespace kquant::cuda {
namespace {

/// How many matrices from `first` on can be one: all but the last must be whole units of 16 rows.
std::size_t neighbours(std::span<const MatrixSlice> matrices) {
  std::size_t n = 1;
  while (n < matrices.size() &&
         device_type(matrices[n].type) == device_type(matrices.front().type) &&
         matrices[n - 1].rows % kUnitRows == 0)
    ++n;
  return n;
}

}  // namespace

Result<DeviceVector> DeviceVector::upload(const std::shared_ptr<Queue>& queue,
                                          std::span<const float> values) {
  DeviceVector out;
  if (values.empty()) return out;
  auto buffer = Buffer::allocate(queue, values.size_bytes(), "norms");
  if (!buffer) return fail(buffer.error());
  out.buffer = std::move(*buffer);
  queue->copy_to_device(out.buffer.as<>(), values.data(), values.size_bytes());
  if (auto done = queue->finish(); !done) return fail(done.error());
  return out;
}

Result<DeviceProjection> DeviceProjection::upload(const std::shared_ptr<Queue>& queue,
                                                  const ProjectionShare& projection) {
  DeviceProjection out;
  out.outputs = projection.outputs();
  for (std::span<const MatrixSlice> rest(projection.matrices); !rest.empty();) {
    const std::size_t n = neighbours(rest);
    auto part = cuda::upload(queue, rest.first(n));
    if (!part) return fail(part.error());
    out.parts.push_back(std::move(*part));
    rest = rest.subspan(n);
  }
  auto bias = DeviceVector::upload(queue, projection.bias);
  if (!bias) return fail(bias.error());
  out.bias = std::move(*bias);
  return out;
}

Result<DeviceWeights> DeviceWeights::upload(const std::shared_ptr<Queue>& queue,
                                            const Weights& weights, const Share& share) {
  DeviceWeights out;
  Result<void> state;
  const auto vector = [&](DeviceVector& to, const std::vector<float>& from) {
    if (!state) return;
    auto made = DeviceVector::upload(queue, from);
    if (made)
      to = std::move(*made);
    else
      state = fail(made.error());
  };
  const auto projection = [&](DeviceProjection& to, const ProjectionShare& from) {
    if (!state) return;
    auto made = DeviceProjection::upload(queue, from);
    if (made)
      to = std::move(*made);
    else
      state = fail(made.error());
  };
  projection(out.embedding, share.embedding);
  projection(out.separate_output, share.separate_output);
  vector(out.output_norm, weights.output_norm);
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& from = weights.layers[i];
    DeviceLayer& to = out.layers.emplace_back();
    vector(to.attn_norm, from.attn_norm);
    vector(to.ffn_norm, from.ffn_norm);
    vector(to.q_norm, from.q_norm);
    vector(to.k_norm, from.k_norm);
    vector(to.attn_post_norm, from.attn_post_norm);
    vector(to.ffn_post_norm, from.ffn_post_norm);
    projection(to.qkv, share.layers[i].qkv);
    projection(to.attn_output, share.layers[i].attn_output);
    projection(to.gate_up, share.layers[i].gate_up);
    projection(to.down, share.layers[i].down);
  }
  if (!state) return fail(state.error());
  return out;
}

}  // namespace kquant::cuda
