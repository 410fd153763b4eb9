#include "kquant/model/config.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "model/arch/architecture.hpp"
#include "model/metadata_keys.hpp"

namespace kquant {
namespace {

// Bounds no real model comes near; they keep every product of two of them within 63 bits.
constexpr std::int64_t kMaxLayers = 1024, kMaxHeads = 1 << 16, kMaxHeadDim = 1 << 16,
                       kMaxWidth = 1 << 24, kMaxContext = 1 << 30;
constexpr double kLarge = 1e12;

Result<const arch::Architecture*> find_architecture(const gguf::File& file) {
  const auto name = file.get_string("general.architecture");
  if (!name) return fail(name.error());
  if (const arch::Architecture* found = arch::find(*name)) return found;
  std::vector<std::string_view> known;
  for (const arch::Architecture* architecture : arch::all()) known.push_back(architecture->name);
  return fail(ErrorCode::kUnsupported,
              fmt::format("{}: architecture '{}' is not supported, only {}", file.path().string(),
                          *name, fmt::join(known, ", ")));
}

void read_sizes(MetadataKeys& keys, Config& config) {
  if (keys.integer("expert_count", 0, 1 << 20, 0) > 0)
    keys.reject("expert_count", "a mixture of experts", "a dense model", ErrorCode::kUnsupported);
  config.n_layers = keys.integer("block_count", 1, kMaxLayers);
  config.context_length = keys.integer("context_length", 1, kMaxContext);
  config.n_embd = keys.integer("embedding_length", 1, kMaxWidth);
  config.n_ff = keys.integer("feed_forward_length", 1, kMaxWidth);
  config.n_heads = keys.integer("attention.head_count", 1, kMaxHeads);
  config.n_kv_heads = keys.integer("attention.head_count_kv", 1, kMaxHeads, config.n_heads);
  if (config.n_heads % config.n_kv_heads != 0)
    keys.reject("attention.head_count_kv", std::to_string(config.n_kv_heads),
                fmt::format("a divisor of attention.head_count, {}", config.n_heads));
  const bool divides = config.n_embd % config.n_heads == 0;
  const auto head_dim = divides ? std::optional(config.n_embd / config.n_heads) : std::nullopt;
  config.head_dim_k = keys.integer("attention.key_length", 1, kMaxHeadDim, head_dim);
  config.head_dim_v = keys.integer("attention.value_length", 1, kMaxHeadDim, head_dim);
  config.norm_eps = keys.number("attention.layer_norm_rms_epsilon", 0.0, 1.0);
}

void read_rope(MetadataKeys& keys, const arch::Architecture& architecture, Config& config) {
  config.rope_layout = architecture.rope_layout;
  config.rope_dims = keys.integer("rope.dimension_count", 2, config.head_dim_k, config.head_dim_k);
  if (config.rope_dims % 2 != 0)
    keys.reject("rope.dimension_count", std::to_string(config.rope_dims), "an even number");
  config.rope_base = keys.number("rope.freq_base", 1.0 + 1e-6, kLarge, 10000.0f);
  config.rope_base_local = keys.number(
      "rope.freq_base_swa", 1.0 + 1e-6, kLarge,
      architecture.rope_base_local > 0 ? architecture.rope_base_local : config.rope_base);
  config.original_context_length =
      keys.integer("rope.scaling.original_context_length", 1, kMaxContext, config.context_length);

  // A file with a factor and no type means linear scaling; a factor of 0 means none.
  float factor = keys.number("rope.scale_linear", 0.0, kLarge, 0.0f);
  factor = keys.number("rope.scaling.factor", 0.0, kLarge, factor);
  const std::string type = keys.text("rope.scaling.type", "linear");
  if (type == "linear")
    config.rope_scaling = factor == 0 || factor == 1 ? RopeScaling::kNone : RopeScaling::kLinear;
  else if (type == "yarn")
    config.rope_scaling = RopeScaling::kYarn;
  else if (type == "longrope")
    config.rope_scaling = RopeScaling::kLongRope;
  else if (type != "none")
    keys.reject("rope.scaling.type", "'" + type + "'", "none, linear, yarn or longrope",
                ErrorCode::kUnsupported);
  if (factor != 0 && type != "none") config.rope_scale = 1.0f / factor;
  // Window layers are not scaled, but where they share the base of the others (as in Gemma 2).
  if (architecture.rope_base_local == 0) config.rope_scale_local = config.rope_scale;

  config.rope_attn_factor = keys.number("rope.scaling.attn_factor", 0.0, 1e6, 1.0f);
  if (config.rope_scaling == RopeScaling::kYarn) {
    config.yarn_ext_factor = keys.number("rope.scaling.yarn_ext_factor", 0.0, 1e6, 1.0f);
    config.yarn_beta_fast = keys.number("rope.scaling.yarn_beta_fast", 1e-6, 1e6, 32.0f);
    config.yarn_beta_slow = keys.number("rope.scaling.yarn_beta_slow", 1e-6, 1e6, 1.0f);
    // Attention temperature of YaRN (arXiv:2309.00071, eq. 22): 0.1 ln(factor) + 1.
    const float log_multiplier = keys.number("rope.scaling.yarn_log_multiplier", 0.0, 1e6, 0.0f);
    const auto temperature = [&](float multiplier) {
      return factor <= 1 ? 1.0f : 0.1f * multiplier * std::log(factor) + 1.0f;
    };
    if (config.yarn_ext_factor != 0)
      config.rope_attn_factor *=
          temperature(1.0f) / (log_multiplier != 0 ? temperature(log_multiplier) : 1.0f);
  }
}

void read_attention(MetadataKeys& keys, const arch::Architecture& architecture, Config& config) {
  const bool by_width = architecture.layers_scaled_by_width == config.n_layers;
  const int divisor = by_width ? config.n_embd / config.n_heads : config.head_dim_k;
  if (divisor == 0)
    keys.reject("embedding_length", std::to_string(config.n_embd),
                fmt::format("at least attention.head_count, {}", config.n_heads));
  else
    config.attention_scale = 1.0f / std::sqrt(static_cast<float>(divisor));
  config.attention_soft_cap =
      keys.number("attn_logit_softcapping", 0.0, 1e6, architecture.attention_soft_cap);
  config.logit_soft_cap =
      keys.number("final_logit_softcapping", 0.0, 1e6, architecture.logit_soft_cap);

  config.layer_is_local.assign(static_cast<std::size_t>(config.n_layers), false);
  if (architecture.window_period == 0) return;
  config.sliding_window =
      keys.integer("attention.sliding_window", 0, kMaxContext, architecture.sliding_window);
  if (config.sliding_window == 0) return;
  // Which layers are local: every layer's own flag, or a period whose last layer is not.
  const auto pattern = keys.find("attention.sliding_window_pattern");
  if (pattern && pattern->type() == gguf::ValueType::Array) {
    const bool flags = pattern->element_type() == gguf::ValueType::Bool;
    if (!flags || pattern->count() < config.layer_is_local.size()) {
      keys.reject("attention.sliding_window_pattern",
                  fmt::format("{} elements of type {}", pattern->count(),
                              gguf::name(pattern->element_type())),
                  fmt::format("a bool for each of {} layers", config.n_layers));
      return;
    }
    const auto values = pattern->bytes().last(pattern->count());
    for (std::size_t layer = 0; layer < config.layer_is_local.size(); ++layer)
      config.layer_is_local[layer] = values[layer] != std::byte{0};
    return;
  }
  const int period =
      keys.integer("attention.sliding_window_pattern", 0, kMaxLayers, architecture.window_period);
  for (int layer = 0; layer < config.n_layers; ++layer)
    config.layer_is_local[static_cast<std::size_t>(layer)] =
        period == 0 || layer % period < period - 1;
}

/// The vocabulary is as large as the embedding matrix; the tokenizer must agree.
Result<int> read_vocab_size(const gguf::File& file) {
  const std::string path = file.path().string();
  const gguf::Tensor* embedding = file.find_tensor("token_embd.weight");
  if (!embedding)
    return fail(ErrorCode::kBadFile, path + ": tensor 'token_embd.weight' is missing");
  const std::uint64_t rows = embedding->rows();
  if (rows > static_cast<std::uint64_t>(kMaxWidth))
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: tensor 'token_embd.weight': found {} rows, expected at most {}",
                            path, rows, kMaxWidth));
  const auto tokens = file.find("tokenizer.ggml.tokens");
  if (tokens && tokens->count() != rows)
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: tensor 'token_embd.weight': found {} rows, expected {}, one for "
                            "each of tokenizer.ggml.tokens",
                            path, rows, tokens->count()));
  return static_cast<int>(rows);
}

}  // namespace

Result<Config> read_config(const gguf::File& file) {
  const auto architecture = find_architecture(file);
  if (!architecture) return fail(architecture.error());
  Config config;
  config.architecture = (*architecture)->name;
  if (const auto name = file.find("general.name"); name && name->as_string())
    config.name = *name->as_string();
  config.activation = (*architecture)->activation;
  config.fused_qkv = (*architecture)->fused_qkv;
  config.fused_gate_up = (*architecture)->fused_gate_up;

  MetadataKeys keys(file, config.architecture);
  read_sizes(keys, config);
  if (!keys.error()) read_rope(keys, **architecture, config);
  if (!keys.error()) read_attention(keys, **architecture, config);
  if (keys.error()) return fail(*keys.error());
  if ((*architecture)->scaled_embedding)
    config.embedding_scale = std::sqrt(static_cast<float>(config.n_embd));

  const auto vocab_size = read_vocab_size(file);
  if (!vocab_size) return fail(vocab_size.error());
  config.vocab_size = *vocab_size;
  return config;
}

}  // namespace kquant
