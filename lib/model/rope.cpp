#include "model/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace kquant {
namespace {

RopeFrequencies plain_frequencies(const Config& config, double base, double scale) {
  RopeFrequencies rope;
  for (int dim = 0; dim < config.rope_dims; dim += 2)
    rope.frequencies.push_back(scale *
                               std::pow(base, -static_cast<double>(dim) / config.rope_dims));
  return rope;
}

/// The pair that makes `turns` turns within the original context (arXiv:2309.00071, appendix).
double pair_of_turns(const Config& config, double turns) {
  return config.rope_dims *
         std::log(config.original_context_length / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(static_cast<double>(config.rope_base)));
}

/// 1 for pairs that turn often enough to keep their frequency, 0 for those to be interpolated.
double kept_share(const Config& config, std::size_t pair) {
  const double low = std::max(0.0, std::floor(pair_of_turns(config, config.yarn_beta_fast)));
  const double high =
      std::min(config.rope_dims - 1.0, std::ceil(pair_of_turns(config, config.yarn_beta_slow)));
  const double ramp = (static_cast<double>(pair) - low) / std::max(0.001, high - low);
  return (1.0 - std::clamp(ramp, 0.0, 1.0)) * config.yarn_ext_factor;
}

}  // namespace

RopeFrequencies global_frequencies(const Config& config, std::span<const float> factors) {
  RopeFrequencies rope = plain_frequencies(config, config.rope_base, 1.0);
  rope.magnitude = config.rope_attn_factor;
  for (std::size_t pair = 0; pair < rope.frequencies.size(); ++pair) {
    double& frequency = rope.frequencies[pair];
    if (!factors.empty()) frequency /= factors[pair];
    const double kept = config.rope_scaling == RopeScaling::kYarn ? kept_share(config, pair) : 0.0;
    frequency *= config.rope_scale * (1.0 - kept) + kept;
  }
  return rope;
}

RopeFrequencies local_frequencies(const Config& config) {
  return plain_frequencies(config, config.rope_base_local, config.rope_scale_local);
}

void RopeTable::extend(std::size_t count, std::size_t capacity) {
  if (count <= count_) return;
  cos_.reserve(capacity * pairs());
  sin_.reserve(capacity * pairs());
  for (; count_ < count; ++count_)
    for (const double frequency : rope_.frequencies) {
      const double angle = static_cast<double>(count_) * frequency;
      cos_.push_back(static_cast<float>(std::cos(angle) * rope_.magnitude));
      sin_.push_back(static_cast<float>(std::sin(angle) * rope_.magnitude));
    }
}

}  // namespace kquant
