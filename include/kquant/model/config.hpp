#pragma once
// Hyper-parameters of a transformer, read from GGUF metadata and validated. An architecture is
// data: which keys, which tensors, which of these switches (lib/model/arch/NAME.cpp).

#include <cstdint>
#include <string>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/gguf.hpp"

namespace kquant {

enum class RopeLayout { kNormal, kNeox };  ///< pairs (2i, 2i+1), or (i, i + n/2)
enum class RopeScaling { kNone, kLinear, kYarn, kLongRope };
enum class Activation { kSilu, kGelu };  ///< of the gated MLP: SwiGLU, GeGLU (tanh form)

struct Config {
  std::string architecture, name;
  int n_layers = 0;
  int n_embd = 0;  ///< width of the residual stream
  int n_ff = 0;    ///< width of the MLP
  int n_heads = 0, n_kv_heads = 0;
  int head_dim_k = 0, head_dim_v = 0;
  int vocab_size = 0;
  int context_length = 0;  ///< trained
  float norm_eps = 1e-5f;

  RopeLayout rope_layout = RopeLayout::kNormal;
  RopeScaling rope_scaling = RopeScaling::kNone;
  int rope_dims = 0;                 ///< leading dimensions of each head that are rotated
  float rope_base = 10000.0f;        ///< of layers that see all tokens
  float rope_base_local = 10000.0f;  ///< of sliding-window layers
  float rope_scale = 1.0f;           ///< position multiplier, 1 / factor
  float rope_scale_local = 1.0f;
  float rope_attn_factor = 1.0f;  ///< multiplies cos and sin; YaRN's own factor included
  float yarn_ext_factor = 0.0f, yarn_beta_fast = 32.0f, yarn_beta_slow = 1.0f;
  /// A cache with room for more tokens than this uses the long RoPE factors (phi3).
  int original_context_length = 0;

  Activation activation = Activation::kSilu;
  float embedding_scale = 1.0f;
  float attention_scale = 0.0f;      ///< multiplies q k^T
  float attention_soft_cap = 0.0f;   ///< 0: none
  float logit_soft_cap = 0.0f;       ///< 0: none
  int sliding_window = 0;            ///< 0: none
  std::vector<bool> layer_is_local;  ///< per layer: attends only within the sliding window
  bool fused_qkv = false, fused_gate_up = false;
};

/// Errors: kUnsupported (architecture), kBadFile (a key missing, mistyped or out of range).
Result<Config> read_config(const gguf::File& file);

}  // namespace kquant
