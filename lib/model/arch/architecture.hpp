#pragma once
// What tells one architecture from another, as data. Everything a GGUF file says itself (sizes,
// bases, windows) is read from it; here is what files leave to be known.

#include <span>
#include <string_view>

#include "kquant/model/config.hpp"

namespace kquant::arch {

struct Architecture {
  std::string_view name;  ///< general.architecture, and the prefix of its metadata keys

  RopeLayout rope_layout = RopeLayout::kNormal;
  Activation activation = Activation::kSilu;

  bool qkv_bias = false;       ///< attn_q.bias, attn_k.bias, attn_v.bias must be there
  bool qk_norms = false;       ///< attn_q_norm, attn_k_norm: RMSNorm of each head before RoPE
  bool post_norms = false;     ///< post_attention_norm, post_ffw_norm: before the residual sum
  bool fused_qkv = false;      ///< attn_qkv holds the rows of Q, K and V
  bool fused_gate_up = false;  ///< ffn_up holds the rows of gate and up

  bool scaled_embedding = false;  ///< embeddings are multiplied by sqrt(n_embd)
  /// A model with this many layers scales scores by 1 / sqrt(n_embd / n_heads), all others by
  /// 1 / sqrt(head_dim); 0: none does.
  int layers_scaled_by_width = 0;
  float attention_soft_cap = 0.0f, logit_soft_cap = 0.0f;  ///< where the file names none

  /// Every window_period-th layer sees all tokens, the others attention.sliding_window of them.
  /// 0: all layers see all tokens, whatever the file says.
  int window_period = 0;
  int sliding_window = 0;        ///< where the file names none
  float rope_base_local = 0.0f;  ///< of window layers where the file names none; 0: rope.freq_base
};

/// All of them, in the order of the registry (registry.cpp).
std::span<const Architecture* const> all();

/// nullptr where there is none of this name.
const Architecture* find(std::string_view name);

}  // namespace kquant::arch
