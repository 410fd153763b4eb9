#pragma once
// A type for every tensor of a model that together fit a size and cost least: what each type would
// cost each tensor is measured, then bytes go where they save most.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/gguf.hpp"
#include "kquant/imatrix.hpp"
#include "kquant/recipe.hpp"

namespace kquant {

struct TypeChoice {
  TensorType type{};
  std::uint64_t bytes = 0;  ///< of the tensor, padded as in a file
  double cost = 0;          ///< in any unit, the same for all tensors
};

/// A tensor that may be quantized, with the types it could have.
struct TensorChoices {
  std::string name;
  std::vector<TypeChoice> types;
};

/// What there is to decide about a model.
struct Choices {
  std::vector<TensorChoices> tensors;
  std::uint64_t settled_bytes = 0;  ///< the file's other bytes: metadata, norms, overrides
  std::uint64_t header_bytes = 0;   ///< metadata alone, part of them
  std::uint64_t weights = 0;        ///< of all tensors
};

struct ChoiceOptions {
  const Imatrix* imatrix = nullptr;
  PlanOptions plan = {};  ///< tensors whose type is asked for here are settled
  int threads = 0;
  /// After each tensor; return false to stop (kInvalidArgument "interrupted").
  std::function<bool(std::size_t done, std::size_t total, const std::string& tensor)> progress = {};
};

/// Quantizes every tensor to every type it could have (effort: fast). Cost: the squared error,
/// weighted by the imatrix where there is one, relative to the tensor's own power; all matrices are
/// taken to matter alike. Errors: those of quantize_model().
Result<Choices> measure_choices(const gguf::File& in, const ChoiceOptions& options = {});

/// Types by tensor name.
using TypePlan = std::map<std::string, TensorType>;

/// Types of least summed cost with which the file has `file_bytes` at most: bytes are given to one
/// tensor after the other in the order of what a byte saves there, which is the optimum under a
/// Lagrange multiplier. Errors: kInvalidArgument, naming the reachable range.
Result<TypePlan> allocate(const Choices& choices, std::uint64_t file_bytes);

/// The size of a file with so many bits a weight, all tensors counted.
std::uint64_t file_bytes_for(const Choices& choices, double bits_per_weight);

/// The recipe whose file is nearest in size to the plan's: what general.file_type says of it.
Result<Recipe> nearest_recipe(const gguf::File& in, const TypePlan& plan);

}  // namespace kquant
