#pragma once
// Recipes: which tensor of a model gets which type ("Q4_K_M", …). The rules are llama.cpp's, so
// that a recipe name means the same files here.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/format/info.hpp"

namespace kquant {

/// Newer llama.cpp treats a fused attn_qkv (Phi-3) and attn_kv_b (DeepSeek) as attn_v; older ones
/// had a rule of its own for attn_qkv and left attn_kv_b in the base type.
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
  int n_heads = 0, n_kv_heads = 0;  ///< of the first layer
  int n_experts = 0;
  bool is_70b = false;  ///< see is_70b_shape()
};

/// What llama.cpp calls type 70B: told by architecture and depth alone (a llama also needs grouped
/// heads, or it is the 65B one).
bool is_70b_shape(std::string_view architecture, int n_layers, int n_heads, int n_kv_heads);

struct PlannedTensor {
  std::string name;
  TensorType source{};
  int n_dims = 0;
  std::uint64_t cols = 0, rows = 0;  ///< rows: the product of all dimensions but the first
  TensorType target{};               ///< filled by plan()
  /// Filled by plan(): "kept", "pure", "base", "output", "token_embd", "attn_v", "attn_k",
  /// "attn_output", "ffn_down", "attn_qkv", "override" or "plan", and where the shape did not fit
  /// ", not divisible by 256".
  std::string reason;
};

/// The first regular expression that is found in a tensor's name decides its type.
struct TensorOverride {
  std::string pattern;  ///< ECMAScript
  TensorType type;
};
/// "attn_v=Q8_0". Errors: kInvalidArgument (no '=', bad regex, a type weights cannot be written
/// in).
Result<TensorOverride> parse_override(std::string_view text);

struct PlanOptions {
  /// Types by full name, before anything else is looked at (allocation.hpp finds them).
  std::map<std::string, TensorType> types = {};
  std::vector<TensorOverride> overrides = {};
  std::optional<TensorType> output_type = {}, token_embedding_type = {};
  bool pure = false;         ///< the base type everywhere but where an override or flag says else
  bool has_imatrix = false;  ///< Q4_0 and Q5_0 look at it (quantize_model() sets it)
  RecipeVersion version = RecipeVersion::kCurrent;
};

/// Fills target and reason of every tensor. Layers count in order of their number, whatever their
/// order in `tensors`. Errors: kInvalidArgument (a bad override, an expert's layer number).
Result<void> plan(const Recipe& recipe, const ModelShape& model, const PlanOptions& options,
                  std::span<PlannedTensor> tensors);

/// True where `recipe` writes this (planned) tensor well only with an importance matrix.
bool needs_imatrix(const Recipe& recipe, const PlannedTensor& tensor);

/// Mean bits per weight of all tensors, norms and other kept ones included, in their target types.
double bits_per_weight(std::span<const PlannedTensor> tensors);

}  // namespace kquant
