#include "kquant/recipe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <numeric>
#include <regex>

#include "kquant/format/all.hpp"
#include "quantize/recipe_rules.hpp"

namespace kquant {
namespace {

using namespace recipe_rules;
using enum TensorType;

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool is_floating(TensorType type) {
  return type != I8 && type != I16 && type != I32 && type != I64;
}

bool is_quantizable(const PlannedTensor& tensor) {
  const std::string_view name = tensor.name;
  return tensor.n_dims >= 2 && tensor.rows > 1 && name.ends_with("weight") &&
         is_floating(tensor.source) &&
         std::ranges::none_of(kKept, [&](auto part) { return contains(name, part); }) &&
         std::ranges::find(kKeptNames, name) == std::end(kKeptNames);
}

bool is_weight_type(TensorType type) {
  const auto known = []<class F>() {};
  return WeightFormats::visit(type, known) || PlainFormats::visit(type, known);
}

// The role by name alone, as newer llama.cpp tells it.
Role role_of(std::string_view name) {
  if (name == "output.weight") return Role::kOutput;
  if (name == "token_embd.weight" || name == kPerLayerEmbedding) return Role::kTokenEmbedding;
  for (const auto& [part, role] : kRoles)
    if (contains(name, part)) return role;
  return Role::kOther;
}

// The variant of that role that the rules of this model and version go by.
Role refine(Role role, std::string_view name, const ModelShape& model, RecipeVersion version) {
  const bool falcon = model.architecture == "falcon";
  switch (role) {
    case Role::kAttnV:
      if (version == RecipeVersion::kCurrent) return role;
      if (contains(name, "attn_qkv.weight")) return Role::kFusedQkv;
      return contains(name, "attn_kv_b.weight") ? Role::kOther : role;
    case Role::kAttnOutput:
      if (falcon) return Role::kAttnOutputFalcon;
      return model.n_experts == 8 ? Role::kAttnOutput8Experts : role;
    case Role::kFfnDown:
      return falcon ? Role::kFfnDownFalcon : role;
    default:
      return role;
  }
}

std::string_view reason_of(Role role) {
  switch (role) {
    case Role::kOutput:
      return "output";
    case Role::kTokenEmbedding:
      return "token_embd";
    case Role::kAttnV:
      return "attn_v";
    case Role::kAttnK:
      return "attn_k";
    case Role::kFusedQkv:
      return "attn_qkv";
    case Role::kAttnOutput:
    case Role::kAttnOutputFalcon:
    case Role::kAttnOutput8Experts:
      return "attn_output";
    case Role::kFfnDown:
    case Role::kFfnDownFalcon:
      return "ffn_down";
    case Role::kOther:
      break;
  }
  return "base";
}

// N of "blk.N.…", or -1.
int layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  int layer = -1;
  if (!name.starts_with(kPrefix)) return -1;
  const char* first = name.data() + kPrefix.size();
  const char* last = name.data() + name.size();
  const auto [end, error] = std::from_chars(first, last, layer);
  return error == std::errc{} && end != last && *end == '.' ? layer : -1;
}

struct CompiledOverride {
  std::regex pattern;
  TensorType type;
};

Result<std::regex> compile(const std::string& pattern) {
  try {
    return std::regex(pattern);
  } catch (const std::regex_error& error) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("override '{}': not a regular expression: {}", pattern, error.what()));
  }
}

// Decides one tensor after the other, counting those of a role.
class Planner {
 public:
  Planner(const Recipe& recipe, const ModelShape& model, const PlanOptions& options)
      : recipe_(recipe), model_(model), options_(options) {}

  Result<void> prepare(std::span<const PlannedTensor> tensors) {
    for (const auto& [pattern, type] : options_.overrides) {
      if (auto valid = check_type(type, pattern); !valid) return valid;
      auto regex = compile(pattern);
      if (!regex) return fail(regex.error());
      overrides_.push_back({std::move(*regex), type});
    }
    for (const auto& type : {options_.output_type, options_.token_embedding_type})
      if (type)
        if (auto valid = check_type(*type, "output or token embedding"); !valid) return valid;
    for (const auto& [name, type] : options_.types) {
      if (auto valid = check_type(type, name); !valid) return valid;
      const auto found = std::ranges::find(tensors, name, &PlannedTensor::name);
      if (found == tensors.end() || !is_quantizable(*found))
        return fail(
            ErrorCode::kInvalidArgument,
            fmt::format("plan: '{}' is no tensor of this model that can be quantized", name));
    }
    for (const PlannedTensor& tensor : tensors) {
      const Role role = role_of(tensor.name);
      if (role == Role::kAttnV) ++n_attn_v_;
      if (role == Role::kOutput) tied_ = false;
    }
    return {};
  }

  Result<void> decide(PlannedTensor& tensor) {
    if (!is_quantizable(tensor)) {
      set(tensor, tensor.source, "kept");
      return {};
    }
    if (const auto planned = options_.types.find(tensor.name); planned != options_.types.end()) {
      set(tensor, planned->second, "plan");
      fit_shape(tensor);
      return {};
    }
    const Role role = refine(role_of(tensor.name), tensor.name, model_, options_.version);
    const CompiledOverride* override = find_override(tensor.name);
    // A per-layer embedding is a large table of its own: an override that names it comes first.
    const bool named = override && tensor.name == kPerLayerEmbedding;
    if (role == Role::kTokenEmbedding && options_.token_embedding_type && !named) {
      set(tensor, *options_.token_embedding_type, "override");
    } else if (role == Role::kOutput && options_.output_type) {
      set(tensor, *options_.output_type, "override");
    } else if (override) {
      set(tensor, override->type, "override");
    } else if (options_.pure || type_info(recipe_.base).support == Support::kPlain) {
      set(tensor, recipe_.base, options_.pure ? "pure" : "base");
    } else if (role == Role::kOutput || (role == Role::kTokenEmbedding && tied_)) {
      set(tensor, options_.output_type.value_or(output_type(tensor)), "output");
    } else {
      auto type = by_rules(role, tensor.name);
      if (!type) return fail(type.error());
      set(tensor, *type, reason_of(role));
    }
    fit_shape(tensor);
    return {};
  }

 private:
  static void set(PlannedTensor& tensor, TensorType type, std::string_view reason) {
    tensor.target = type;
    tensor.reason = reason;
  }

  static Result<void> check_type(TensorType type, std::string_view what) {
    if (is_weight_type(type)) return {};
    return fail(ErrorCode::kInvalidArgument, fmt::format("override '{}': weights cannot be written "
                                                         "as {}",
                                                         what, type_info(type).name));
  }

  const CompiledOverride* find_override(const std::string& name) const {
    const auto found = std::ranges::find_if(
        overrides_, [&](const auto& o) { return std::regex_search(name, o.pattern); });
    return found == overrides_.end() ? nullptr : &*found;
  }

  TensorType output_type(const PlannedTensor& tensor) const {
    const bool fits = tensor.cols % type_info(recipe_.base).block_size == 0;
    if (recipe_.base == Q8_0 || !fits || model_.architecture == "falcon") return Q8_0;
    return Q6_K;
  }

  Result<TensorType> by_rules(Role role, std::string_view name) {
    int i = 0, n = 1;
    if (role == Role::kAttnV) {
      i = i_attn_v_++;
      n = n_attn_v_;
    } else if (role == Role::kFfnDown || role == Role::kFfnDownFalcon) {
      i = i_ffn_down_++;
      n = model_.n_layers;
      // Several tensors a layer, in any order: only the name tells the layer.
      if (model_.n_experts > 1) i = layer_of(name);
      if (model_.n_experts > 1 && (i < 0 || i >= n))
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("tensor '{}': layer number not in 0 … {}", name, n - 1));
    }
    TensorType type = recipe_.base;
    for (const Rule& rule : kRules)
      if (rule.recipe == recipe_.name && rule.role == role && holds(rule.when, i, n)) {
        type = rule.type;
        break;
      }
    if (role == Role::kAttnV && model_.is_70b && (type == Q3_K || type == Q4_K)) type = Q5_K;
    if ((role == Role::kAttnV || role == Role::kAttnK) && model_.n_experts == 8) type = Q8_0;
    return type;
  }

  bool holds(When when, int i, int n) const {
    switch (when) {
      case When::kAlways:
        return true;
      case When::kFirst2:
        return i < 2;
      case When::kFirst4:
        return i < 4;
      case When::kFirstSixteenth:
        return i < n / 16;
      case When::kFirstEighth:
        return i < n / 8;
      case When::kMore:
        return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
      case When::kGroups4:
        return model_.n_kv_heads > 0 && model_.n_heads / model_.n_kv_heads >= 4;
      case When::kFirstEighthWithImatrix:
        return options_.has_imatrix && i < n / 8;
    }
    return false;
  }

  static void fit_shape(PlannedTensor& tensor) {
    const auto fits = [&] { return tensor.cols % type_info(tensor.target).block_size == 0; };
    if (fits()) return;
    const auto block = type_info(tensor.target).block_size;
    for (const Fallback& fallback : kFallbacks)
      if (fallback.type == tensor.target) {
        tensor.target = fallback.instead;
        break;
      }
    if (!fits()) tensor.target = F16;
    tensor.reason += fmt::format(", not divisible by {}", tensor.target == F16 ? 32U : block);
  }

  const Recipe& recipe_;
  const ModelShape& model_;
  const PlanOptions& options_;
  std::vector<CompiledOverride> overrides_;
  bool tied_ = true;  // until there is an output.weight
  int i_attn_v_ = 0, n_attn_v_ = 0, i_ffn_down_ = 0;
};

}  // namespace

std::span<const Recipe> recipes() {
  return kRecipes;
}

Result<Recipe> find_recipe(std::string_view name) {
  const auto upper = [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; };
  std::string names;
  for (const Recipe& recipe : recipes()) {
    if (std::ranges::equal(name, recipe.name, {}, upper)) return recipe;
    names += names.empty() ? "" : ", ";
    names += recipe.name;
  }
  return fail(ErrorCode::kNotFound, fmt::format("recipe '{}': not one of {}", name, names));
}

bool is_70b_shape(std::string_view architecture, int n_layers, int n_heads, int n_kv_heads) {
  if (architecture == "llama") return n_layers == 80 && n_heads != n_kv_heads;
  if (architecture == "jais2") return n_layers == 68;
  return n_layers == 80 &&
         (architecture == "qwen2" || architecture == "deci" || architecture == "olmo");
}

Result<TensorOverride> parse_override(std::string_view text) {
  const auto equals = text.rfind('=');  // a pattern may hold '=' too
  if (equals == std::string_view::npos || equals == 0)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("override '{}': not of the form PATTERN=TYPE", text));
  const std::string_view type = text.substr(equals + 1);
  const TypeInfo* info = find_type(type);
  if (!info || !is_weight_type(info->type))
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("override '{}': '{}' is not a type weights can be written in", text, type));
  TensorOverride result{std::string(text.substr(0, equals)), info->type};
  if (auto regex = compile(result.pattern); !regex) return fail(regex.error());
  return result;
}

Result<void> plan(const Recipe& recipe, const ModelShape& model, const PlanOptions& options,
                  std::span<PlannedTensor> tensors) {
  Planner planner(recipe, model, options);
  if (auto ready = planner.prepare(tensors); !ready) return ready;
  // llama.cpp walks by layer, then by name; files need not be sorted so.
  std::vector<PlannedTensor*> order(tensors.size());
  std::ranges::transform(tensors, order.begin(), [](PlannedTensor& t) { return &t; });
  std::ranges::stable_sort(order, {}, [](const PlannedTensor* t) {
    return std::pair(layer_of(t->name), std::string_view(t->name));
  });
  for (PlannedTensor* tensor : order)
    if (auto decided = planner.decide(*tensor); !decided) return decided;
  return {};
}

bool needs_imatrix(const Recipe& recipe, const PlannedTensor& tensor) {
  const Role role = role_of(tensor.name);
  return recipe.needs_imatrix && tensor.target == TensorType::Q2_K &&
         tensor.source != TensorType::Q2_K && role != Role::kOutput &&
         role != Role::kTokenEmbedding;
}

double bits_per_weight(std::span<const PlannedTensor> tensors) {
  double bits = 0, weights = 0;
  for (const PlannedTensor& tensor : tensors) {
    const double size = static_cast<double>(tensor.cols) * static_cast<double>(tensor.rows);
    bits += size * type_info(tensor.target).bits_per_weight();
    weights += size;
  }
  return weights > 0 ? bits / weights : 0;
}

}  // namespace kquant
