#include "kquant/allocation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kquant/base/checked.hpp"
#include "kquant/quantize.hpp"
#include "kquant/quantize_model.hpp"
#include "quantize/model_tensors.hpp"

namespace kquant {
namespace {

using enum TensorType;

// Of columns in whole blocks of 256, and of others.
constexpr TensorType kLarge[] = {Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0};
constexpr TensorType kSmall[] = {Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};

std::vector<TensorType> types_for(const PlannedTensor& tensor) {
  std::vector<TensorType> types;
  if (tensor.cols % 256 == 0)
    types.assign(std::begin(kLarge), std::end(kLarge));
  else if (tensor.cols % 32 == 0)
    types.assign(std::begin(kSmall), std::end(kSmall));
  if (std::ranges::find(types, tensor.source) == types.end()) types.push_back(tensor.source);
  return types;
}

std::uint64_t file_bytes_of(std::uint64_t bytes, const gguf::File& in) {
  return checked_align_up(bytes, in.alignment()).value_or(bytes);
}

/// Metadata and tensor infos, and room for what quantizing adds to them.
std::uint64_t header_bytes(const gguf::File& in) {
  constexpr std::uint64_t kAdded = 1024;
  std::uint64_t data = 0;
  for (const gguf::Tensor& tensor : in.tensors()) data += file_bytes_of(tensor.data.size(), in);
  return in.total_bytes() - std::min(in.total_bytes(), data) + kAdded;
}

/// A step up in size on the lower convex hull of a tensor's costs over its bytes.
struct Step {
  std::size_t tensor, to;  ///< index of the type
  std::uint64_t bytes;
  double saving;  ///< of cost, a byte
};

/// The hull's corners, smallest first.
std::vector<std::size_t> hull_of(const std::vector<TypeChoice>& types) {
  std::vector<std::size_t> order(types.size()), hull;
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
    return std::pair(types[a].bytes, types[a].cost) < std::pair(types[b].bytes, types[b].cost);
  });
  const auto slope = [&](std::size_t a, std::size_t b) {
    return (types[a].cost - types[b].cost) / static_cast<double>(types[b].bytes - types[a].bytes);
  };
  for (const std::size_t next : order) {
    if (!hull.empty() && (types[next].bytes == types[hull.back()].bytes ||
                          types[next].cost >= types[hull.back()].cost))
      continue;
    while (hull.size() > 1 && slope(hull.back(), next) >= slope(hull[hull.size() - 2], hull.back()))
      hull.pop_back();
    hull.push_back(next);
  }
  return hull;
}

}  // namespace

Result<Choices> measure_choices(const gguf::File& in, const ChoiceOptions& options) {
  auto tensors = detail::planned_tensors(in);
  const auto shape = model_shape(in);
  if (!shape) return fail(shape.error());
  // Any recipe tells which tensors are quantized at all, and which are overridden.
  const auto recipe = find_recipe("Q4_K_S");
  if (auto planned = plan(*recipe, *shape, options.plan, tensors); !planned)
    return fail(planned.error());

  Choices choices;
  choices.header_bytes = choices.settled_bytes = header_bytes(in);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const PlannedTensor& tensor = tensors[i];
    choices.weights += tensor.cols * tensor.rows;
    if (tensor.reason.starts_with("kept") || tensor.reason.starts_with("override")) {
      choices.settled_bytes +=
          file_bytes_of(tensor.rows * row_bytes(tensor.target, tensor.cols), in);
    } else {
      auto importance = detail::importance_of(in, in.tensors()[i], options.imatrix);
      if (!importance) return fail(importance.error());
      TensorChoices of_tensor{tensor.name, {}};
      for (const TensorType type : types_for(tensor)) {
        const auto error =
            detail::error_as(in, in.tensors()[i], type, *importance, options.threads);
        if (!error) return fail(error.error());
        const double power = error->weighted_power;
        of_tensor.types.push_back({type,
                                   file_bytes_of(tensor.rows * row_bytes(type, tensor.cols), in),
                                   power > 0 ? error->weighted_error / power : 0});
      }
      choices.tensors.push_back(std::move(of_tensor));
    }
    if (options.progress && !options.progress(i + 1, tensors.size(), tensor.name))
      return fail(ErrorCode::kInvalidArgument, "interrupted");
  }
  return choices;
}

Result<TypePlan> allocate(const Choices& choices, std::uint64_t file_bytes) {
  TypePlan plan;
  std::vector<Step> steps;
  std::uint64_t size = choices.settled_bytes, most = choices.settled_bytes;
  for (std::size_t t = 0; t < choices.tensors.size(); ++t) {
    const auto& [name, types] = choices.tensors[t];
    const auto hull = hull_of(types);
    plan[name] = types[hull.front()].type;
    size += types[hull.front()].bytes;
    most += types[hull.back()].bytes;
    for (std::size_t i = 1; i < hull.size(); ++i) {
      const TypeChoice &from = types[hull[i - 1]], &to = types[hull[i]];
      const std::uint64_t bytes = to.bytes - from.bytes;
      steps.push_back({t, hull[i], bytes, (from.cost - to.cost) / static_cast<double>(bytes)});
    }
  }
  const auto bits = [&](std::uint64_t bytes) {
    return 8 * static_cast<double>(bytes - choices.header_bytes) /
           static_cast<double>(choices.weights);
  };
  if (size > file_bytes)
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("a file of {} bytes: reachable are {} ({:.3f} bits a weight) to {} ({:.3f})",
                    file_bytes, size, bits(size), most, bits(most)));
  // Along a hull savings fall, so that steps of one tensor stay in order.
  std::ranges::stable_sort(steps, std::greater{}, &Step::saving);
  std::vector<bool> full(choices.tensors.size());
  for (const Step& step : steps) {
    if (full[step.tensor]) continue;
    if (size + step.bytes > file_bytes) {
      full[step.tensor] = true;
      continue;
    }
    const auto& [name, types] = choices.tensors[step.tensor];
    size += step.bytes;
    plan[name] = types[step.to].type;
  }
  return plan;
}

std::uint64_t file_bytes_for(const Choices& choices, double bits_per_weight) {
  return choices.header_bytes +
         static_cast<std::uint64_t>(std::max(0.0, bits_per_weight) *
                                    static_cast<double>(choices.weights) / 8);
}

Result<Recipe> nearest_recipe(const gguf::File& in, const TypePlan& types) {
  const auto shape = model_shape(in);
  if (!shape) return fail(shape.error());
  auto tensors = detail::planned_tensors(in);
  const auto bits = [&](const Recipe& recipe, const TypePlan& asked) -> Result<double> {
    if (auto planned = plan(recipe, *shape, {.types = asked}, tensors); !planned)
      return fail(planned.error());
    return bits_per_weight(tensors);
  };
  const auto wanted = bits(recipes().front(), types);
  if (!wanted) return fail(wanted.error());
  const Recipe* nearest = nullptr;
  double least = 0;
  for (const Recipe& recipe : recipes()) {
    const auto found = bits(recipe, {});
    if (!found) return fail(found.error());
    if (nearest && !(std::fabs(*found - *wanted) < least)) continue;
    nearest = &recipe;
    least = std::fabs(*found - *wanted);
  }
  return *nearest;
}

}  // namespace kquant
