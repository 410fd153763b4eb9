#pragma once
// Recipes: which tensor of a model gets which type ("Q4_K_M", …). The rules are llama.cpp's, so
// that a recipe name means the same files here.

#include <cstdint>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/format/info.hpp"

namespace kquant {

/// How older and newer llama.cpp treat a fused attn_qkv (Phi-3): by a rule of its own, or as
/// attn_v.
enum class RecipeVersion { kCurrent, kFusedQkvRule };

struct Recipe {
  std::string_view name;    ///< "Q4_K_M"
  std::uint32_t file_type;  ///< GGUF's general.file_type
  TensorType base;
  bool needs_imatrix;
};

/// All recipes, smallest first.
std::span<const Recipe> recipes();
/// Letter case is ignored. kNotFound lists the names.
Result<Recipe> find_recipe(std::string_view name);

/// What the rules look at.
struct ModelShape {
  std::string architecture;
  int n_layers = 0;
  int n_heads = 0, n_kv_heads = 0;
  int n_experts = 0;
  bool is_70b = false;  ///< llama, 80 layers, n_heads != n_kv_heads
};

struct PlannedTensor {
  std::string name;
  TensorType source{};
  int n_dims = 0;
  std::uint64_t cols = 0, rows = 0;
  TensorType target{};  ///< filled by plan()
  std::string
      reason;  ///< filled by plan(): "base", "attn_v", "override", "not divisible by 256", "kept"
};

/// The first regular expression that is found in a tensor's name decides its type.
struct TensorOverride {
  std::string pattern;
  TensorType type;
};
/// "attn_v=Q8_0". Errors: kInvalidArgument (no '=', bad regex, unknown type).
Result<TensorOverride> parse_override(std::string_view text);

struct PlanOptions {
  std::vector<TensorOverride> overrides;
  std::optional<TensorType> output_type, token_embedding_type;
  bool pure = false;  ///< the base type everywhere
  RecipeVersion version = RecipeVersion::kCurrent;
};

/// Fills target and reason of every tensor, given in file order.
Result<void> plan(const Recipe& recipe, const ModelShape& model, const PlanOptions& options,
                  std::span<PlannedTensor> tensors);

/// Mean bits per weight of all tensors in their target types.
double bits_per_weight(std::span<const PlannedTensor> tensors);

}  // namespace kquant
