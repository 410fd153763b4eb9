#pragma once
// What recipes say, as data: tensor roles, the rules by role, what is kept, and what replaces a
// type that a shape does not fit. The logic that reads it is recipe.cpp; docs/recipes.md explains.

#include <string_view>

#include "kquant/recipe.hpp"

namespace kquant::recipe_rules {

using enum TensorType;

// Smallest first, by the size of an 8B llama. Ids: llama.cpp's llama_ftype.
inline constexpr Recipe kRecipes[] = {
    {"Q2_K_S", 21, Q2_K, true},  {"Q2_K", 10, Q2_K, false},   {"Q3_K_S", 11, Q3_K, false},
    {"Q3_K_M", 12, Q3_K, false}, {"Q3_K_L", 13, Q3_K, false}, {"Q4_0", 2, Q4_0, false},
    {"Q4_K_S", 14, Q4_K, false}, {"Q4_K_M", 15, Q4_K, false}, {"Q4_1", 3, Q4_1, false},
    {"Q5_0", 8, Q5_0, false},    {"Q5_K_S", 16, Q5_K, false}, {"Q5_K_M", 17, Q5_K, false},
    {"Q5_1", 9, Q5_1, false},    {"Q6_K", 18, Q6_K, false},   {"Q8_0", 7, Q8_0, false},
    {"F16", 1, F16, false},      {"BF16", 32, BF16, false},   {"F32", 0, F32, false},
};

// What a tensor is for, as far as rules differ. kAttnOutput and kFfnDown have variants of their
// own in some models.
enum class Role {
  kOther,
  kOutput,
  kTokenEmbedding,
  kAttnV,
  kAttnK,
  kFusedQkv,
  kAttnOutput,
  kAttnOutputFalcon,
  kAttnOutput8Experts,
  kFfnDown,
  kFfnDownFalcon,
};

struct NamedRole {
  std::string_view part;  // of a tensor's name
  Role role;
};
inline constexpr NamedRole kRoles[] = {
    {"attn_qkv.weight", Role::kAttnV},         {"attn_kv_b.weight", Role::kAttnV},
    {"attn_v.weight", Role::kAttnV},           {"attn_k.weight", Role::kAttnK},
    {"attn_output.weight", Role::kAttnOutput}, {"ffn_down", Role::kFfnDown},
};

// When a rule holds, for the i-th of n tensors of its role.
enum class When {
  kAlways,
  kFirst2,
  kFirst4,
  kFirstSixteenth,
  kFirstEighth,
  kMore,     // the first and last eighth, and every third in between
  kGroups4,  // four or more query heads share a key-value head
  kFirstEighthWithImatrix,
};

struct Rule {
  std::string_view recipe;
  Role role;
  When when;
  TensorType type;
};

// THE rules: the first that holds decides; where none does, the tensor takes the base type.
inline constexpr Rule kRules[] = {
    {"Q2_K", Role::kAttnV, When::kGroups4, Q4_K},
    {"Q2_K", Role::kAttnV, When::kAlways, Q3_K},
    {"Q2_K", Role::kAttnOutput, When::kAlways, Q3_K},
    {"Q2_K", Role::kAttnOutput8Experts, When::kAlways, Q5_K},
    {"Q2_K", Role::kFfnDown, When::kAlways, Q3_K},
    {"Q2_K", Role::kFfnDownFalcon, When::kAlways, Q3_K},

    {"Q2_K_S", Role::kAttnV, When::kGroups4, Q4_K},
    {"Q2_K_S", Role::kFfnDown, When::kFirstEighth, Q4_K},
    {"Q2_K_S", Role::kFfnDownFalcon, When::kFirstEighth, Q4_K},

    {"Q3_K_S", Role::kAttnOutput8Experts, When::kAlways, Q5_K},

    {"Q3_K_M", Role::kAttnV, When::kFirst2, Q5_K},
    {"Q3_K_M", Role::kAttnV, When::kAlways, Q4_K},
    {"Q3_K_M", Role::kFusedQkv, When::kAlways, Q4_K},
    {"Q3_K_M", Role::kAttnOutput, When::kAlways, Q4_K},
    {"Q3_K_M", Role::kAttnOutput8Experts, When::kAlways, Q5_K},
    {"Q3_K_M", Role::kFfnDown, When::kFirstSixteenth, Q5_K},
    {"Q3_K_M", Role::kFfnDown, When::kAlways, Q4_K},
    {"Q3_K_M", Role::kFfnDownFalcon, When::kFirstSixteenth, Q5_K},
    {"Q3_K_M", Role::kFfnDownFalcon, When::kMore, Q4_K},

    {"Q3_K_L", Role::kAttnV, When::kAlways, Q5_K},
    {"Q3_K_L", Role::kFusedQkv, When::kAlways, Q4_K},
    {"Q3_K_L", Role::kAttnOutput, When::kAlways, Q5_K},
    {"Q3_K_L", Role::kAttnOutputFalcon, When::kAlways, Q4_K},
    {"Q3_K_L", Role::kFfnDown, When::kAlways, Q5_K},
    {"Q3_K_L", Role::kFfnDownFalcon, When::kAlways, Q4_K},

    {"Q4_K_S", Role::kAttnV, When::kFirst4, Q5_K},
    {"Q4_K_S", Role::kAttnOutput8Experts, When::kAlways, Q5_K},
    {"Q4_K_S", Role::kFfnDown, When::kFirstEighth, Q5_K},

    {"Q4_K_M", Role::kAttnV, When::kMore, Q6_K},
    {"Q4_K_M", Role::kFusedQkv, When::kAlways, Q5_K},
    {"Q4_K_M", Role::kAttnOutput8Experts, When::kAlways, Q5_K},
    {"Q4_K_M", Role::kFfnDown, When::kMore, Q6_K},
    {"Q4_K_M", Role::kFfnDownFalcon, When::kFirstSixteenth, Q6_K},
    {"Q4_K_M", Role::kFfnDownFalcon, When::kMore, Q5_K},

    {"Q5_K_M", Role::kAttnV, When::kMore, Q6_K},
    {"Q5_K_M", Role::kFusedQkv, When::kAlways, Q6_K},
    {"Q5_K_M", Role::kFfnDown, When::kMore, Q6_K},
    {"Q5_K_M", Role::kFfnDownFalcon, When::kMore, Q6_K},

    {"Q4_0", Role::kFfnDown, When::kFirstEighthWithImatrix, Q4_1},
    {"Q4_0", Role::kFfnDownFalcon, When::kFirstEighthWithImatrix, Q4_1},
    {"Q5_0", Role::kFfnDown, When::kFirstEighthWithImatrix, Q5_1},
    {"Q5_0", Role::kFfnDownFalcon, When::kFirstEighthWithImatrix, Q5_1},
};

// Parts of the names of small or delicate tensors that are never quantized.
inline constexpr std::string_view kKept[] = {
    "_norm.weight",
    "ffn_gate_inp.weight",  // routers of mixtures of experts
    "ssm_conv1d",
    "shortconv.conv.weight",
    "altup",  // Gemma 3n
    "laurel",
    "per_layer_model_proj",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",  // RWKV
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",  // T5
    ".position_embd",     // vision and audio encoders
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    "a.rvq.codebook",
    "mm.a.code_embd",
};
inline constexpr std::string_view kKeptNames[] = {"position_embd.weight", "token_types.weight"};

// Smaller blocks for columns that are not a multiple of 256.
struct Fallback {
  TensorType type, instead;
};
inline constexpr Fallback kFallbacks[] = {
    {Q2_K, Q4_0}, {Q3_K, Q4_0}, {Q4_K, Q5_0}, {Q5_K, Q5_1}, {Q6_K, Q8_0},
};

inline constexpr std::string_view kPerLayerEmbedding = "per_layer_token_embd.weight";

}  // namespace kquant::recipe_rules
