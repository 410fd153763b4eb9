#include "model/forward.hpp"

#include <algorithm>
#include <array>
#include <cassert>

#include "matmul/float_ops.hpp"

namespace kquant {
namespace {

std::size_t size(int n) {
  return static_cast<std::size_t>(n);
}

/// fn(row) for each row, spread over threads where there are several.
template <class Fn>
void for_each_row(std::size_t rows, const Fn& fn) {
#pragma omp parallel for if (rows > 1)
  for (std::size_t row = 0; row < rows; ++row) fn(row);
}

void store(std::span<const float> x, Half* out) {
  ops::to_half(x, {out, x.size()});
}
void store(std::span<const float> x, float* out) {
  std::ranges::copy(x, out);
}

}  // namespace

ForwardPass::ForwardPass(const Config& config, Weights weights)
    : config_(config),
      weights_(std::move(weights)),
      n_embd_(size(config.n_embd)),
      n_ff_(size(config.n_ff)),
      n_heads_(size(config.n_heads)),
      n_kv_heads_(size(config.n_kv_heads)),
      dim_k_(size(config.head_dim_k)),
      dim_v_(size(config.head_dim_v)) {
  const bool plain = !weights_.rope_freqs.empty();
  rope_ = global_frequencies(config_, plain ? weights_.rope_freqs : weights_.rope_factors_short);
  rope_long_ =
      global_frequencies(config_, plain ? weights_.rope_freqs : weights_.rope_factors_long);
  rope_local_ = local_frequencies(config_);
}

void ForwardPass::reserve(std::size_t tokens) {
  const auto grow = [&](std::vector<float>& buffer, std::size_t width) {
    if (buffer.size() < tokens * width) buffer.resize(tokens * width);
  };
  grow(x_, n_embd_);
  grow(normed_, n_embd_);
  grow(branch_, n_embd_);
  grow(qkv_, n_heads_ * dim_k_ + n_kv_heads_ * (dim_k_ + dim_v_));
  grow(heads_, n_heads_ * dim_v_);
  grow(gate_up_, 2 * n_ff_);
}

Span2d<const float> ForwardPass::run(std::span<const Token> tokens, KvCache& cache,
                                     std::size_t n_hidden) {
  const std::size_t n = tokens.size();
  assert(n <= kChunk && n_hidden <= n);
  reserve(n);
  const bool is_long = cache.capacity() > config_.original_context_length;
  table_.fill(is_long ? rope_long_ : rope_, size(cache.size()), n);
  if (config_.sliding_window > 0) table_local_.fill(rope_local_, size(cache.size()), n);

  CacheAccess access(cache);
  const Span2d<float> x(x_.data(), n, n_embd_);
  embed(tokens, x);
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    add_attention(i, access, cache, x);
    add_mlp(weights_.layers[i], x);
  }
  access.advance(n);
  const Span2d<float> hidden(normed_.data(), n_hidden, n_embd_);
  norm(x.middle_rows(n - n_hidden, n_hidden), weights_.output_norm, hidden);
  return hidden;
}

void ForwardPass::project(Span2d<const float> hidden, Span2d<float> logits) {
  apply(weights_.output, hidden, logits);
  if (config_.logit_soft_cap > 0)
    for_each_row(logits.rows,
                 [&](std::size_t row) { ops::soft_cap(logits.row(row), config_.logit_soft_cap); });
}

void ForwardPass::embed(std::span<const Token> tokens, Span2d<float> x) {
  for_each_row(tokens.size(), [&](std::size_t row) {
    dequantize_rows(weights_.embedding.matrices.front(), size(tokens[row]), x.middle_rows(row, 1));
    if (config_.embedding_scale != 1) ops::scale(x.row(row), config_.embedding_scale);
  });
}

void ForwardPass::apply(const Projection& projection, Span2d<const float> x, Span2d<float> y) {
  constexpr std::size_t kMost = 3;  // Q, K and V
  assert(projection.matrices.size() <= kMost && y.cols == projection.outputs());
  std::array<Span2d<float>, kMost> parts;
  std::size_t first = 0;
  for (std::size_t i = 0; i < projection.matrices.size(); ++i) {
    if (observer) observer(projection.names[i], x);
    const std::size_t outputs = projection.matrices[i].rows;
    parts[i] = {y.data + first, y.rows, outputs, y.stride};
    first += outputs;
  }
  matmul(projection.matrices, x, std::span(parts).first(projection.matrices.size()), workspace_);
  if (!projection.bias.empty())
    for_each_row(y.rows, [&](std::size_t row) { ops::add(projection.bias, y.row(row)); });
}

void ForwardPass::add_attention(std::size_t index, CacheAccess& access, const KvCache& cache,
                                Span2d<float> x) {
  const LayerWeights& layer = weights_.layers[index];
  const std::size_t n = x.rows;
  const Span2d<float> normed(normed_.data(), n, n_embd_);
  const Span2d<float> qkv(qkv_.data(), n, n_heads_ * dim_k_ + n_kv_heads_ * (dim_k_ + dim_v_));
  const Span2d<float> heads(heads_.data(), n, n_heads_ * dim_v_);
  const Span2d<float> branch(branch_.data(), n, n_embd_);

  norm(x, layer.attn_norm, normed);
  apply(layer.qkv, normed, qkv);
  if (cache.type() == KvType::kF16)
    attend<Half>(index, access, size(cache.size()), qkv, heads);
  else
    attend<float>(index, access, size(cache.size()), qkv, heads);
  apply(layer.attn_output, heads, branch);
  add_residual(branch, layer.attn_post_norm, x);
}

template <class T>
void ForwardPass::attend(std::size_t index, CacheAccess& access, std::size_t position,
                         Span2d<float> qkv, Span2d<float> out) {
  const LayerWeights& layer = weights_.layers[index];
  const bool local = config_.layer_is_local[index];
  const RopeTable& table = local ? table_local_ : table_;
  const std::size_t q_width = n_heads_ * dim_k_, k_width = n_kv_heads_ * dim_k_;

  const auto rotate = [&](std::span<float> heads, std::span<const float> weight, std::size_t row) {
    if (!weight.empty())
      for (std::size_t at = 0; at < heads.size(); at += dim_k_)
        ops::rms_norm(heads.subspan(at, dim_k_), weight, config_.norm_eps,
                      heads.subspan(at, dim_k_));
    if (config_.rope_layout == RopeLayout::kNormal)
      ops::rope_normal(heads, dim_k_, table.cos(row), table.sin(row));
    else
      ops::rope_neox(heads, dim_k_, table.cos(row), table.sin(row));
  };
  for_each_row(qkv.rows, [&](std::size_t row) {
    const std::span<float> q = qkv.row(row).first(q_width);
    const std::span<float> k = qkv.row(row).subspan(q_width, k_width);
    const std::span<float> v = qkv.row(row).subspan(q_width + k_width);
    rotate(q, layer.q_norm, row);
    rotate(k, layer.k_norm, row);
    ops::scale(q, config_.attention_scale);
    for (std::size_t head = 0; head < n_kv_heads_; ++head) {
      const std::size_t token = position + row;
      store(k.subspan(head * dim_k_, dim_k_), access.keys<T>(index, head) + token * dim_k_);
      store(v.subspan(head * dim_v_, dim_v_), access.values<T>(index, head) + token * dim_v_);
    }
  });
  const Span2d<const float> q(qkv.data, qkv.rows, q_width, qkv.stride);
  const Attention::Shape shape{.layer = index,
                               .n_heads = n_heads_,
                               .window = local ? size(config_.sliding_window) : 0,
                               .soft_cap = config_.attention_soft_cap};
  attention_.run<T>(access, shape, q, position, out);
}

void ForwardPass::add_mlp(const LayerWeights& layer, Span2d<float> x) {
  const Span2d<float> normed(normed_.data(), x.rows, n_embd_);
  const Span2d<float> gate_up(gate_up_.data(), x.rows, 2 * n_ff_);
  const Span2d<float> product(gate_up_.data(), x.rows, n_ff_, 2 * n_ff_);  // over the gates
  const Span2d<float> branch(branch_.data(), x.rows, n_embd_);

  norm(x, layer.ffn_norm, normed);
  apply(layer.gate_up, normed, gate_up);
  for_each_row(x.rows, [&](std::size_t row) {
    const std::span<float> gate = gate_up.row(row).first(n_ff_), up = gate_up.row(row).last(n_ff_);
    if (config_.activation == Activation::kSilu)
      ops::silu_mul(gate, up, gate);
    else
      ops::gelu_tanh_mul(gate, up, gate);
  });
  apply(layer.down, product, branch);
  add_residual(branch, layer.ffn_post_norm, x);
}

void ForwardPass::norm(Span2d<const float> x, std::span<const float> weight,
                       Span2d<float> out) const {
  for_each_row(x.rows, [&](std::size_t row) {
    ops::rms_norm(x.row(row), weight, config_.norm_eps, out.row(row));
  });
}

void ForwardPass::add_residual(Span2d<float> y, std::span<const float> post_norm,
                               Span2d<float> x) const {
  for_each_row(x.rows, [&](std::size_t row) {
    if (!post_norm.empty()) ops::rms_norm(y.row(row), post_norm, config_.norm_eps, y.row(row));
    ops::add(y.row(row), x.row(row));
  });
}

}  // namespace kquant
