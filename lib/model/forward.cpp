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
  if (rows == 1) return fn(std::size_t{0});  // a team, even of one, costs microseconds
#pragma omp parallel for
  for (std::size_t row = 0; row < rows; ++row) fn(row);
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
  const auto table = [&](RopeFrequencies frequencies) {
    return RopeTable(std::move(frequencies), config_.rope_layout);
  };
  rope_ =
      table(global_frequencies(config_, plain ? weights_.rope_freqs : weights_.rope_factors_short));
  rope_long_ =
      table(global_frequencies(config_, plain ? weights_.rope_freqs : weights_.rope_factors_long));
  rope_local_ = table(local_frequencies(config_));
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

RopeTable& ForwardPass::table_of(const KvCache& cache, bool local) {
  if (local) return rope_local_;
  return cache.capacity() > config_.original_context_length ? rope_long_ : rope_;
}

/// Notes what piece and position each row of the chunk has.
void ForwardPass::place(std::span<const Piece> pieces) {
  rows_.clear();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const KvCache& cache = *pieces[i].cache;
    const std::size_t begin = size(cache.size()), end = begin + pieces[i].tokens.size();
    for (std::size_t position = begin; position < end; ++position) rows_.push_back({i, position});
    table_of(cache, false).extend(end, size(cache.capacity()));
    if (config_.sliding_window > 0) table_of(cache, true).extend(end, size(cache.capacity()));
  }
}

Result<void> ForwardPass::check(const KvCache& cache) const {
  if (CacheAccess(cache).elsewhere() == nullptr || cache.size() == 0) return {};
  return fail(ErrorCode::kInvalidArgument, "forward: the cache's tokens are on another device");
}

Result<Span2d<const float>> ForwardPass::run(std::span<const Piece> pieces) {
  place(pieces);
  const std::size_t n = rows_.size();
  assert(n <= kChunk);
  reserve(n);

  Span2d<float> x(x_.data(), n, n_embd_);
  embed(pieces, x);
  done(Stage::kEmbedding);
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    // What nobody asked for is not computed beyond its keys and values in the last layer; but an
    // observer wants to see all there is.
    const bool only_outputs = i + 1 == weights_.layers.size() && !observer;
    x = add_attention(i, pieces, x, only_outputs);
    add_mlp(weights_.layers[i], x);
  }
  for (const Piece& piece : pieces) CacheAccess::advance(*piece.cache, piece.tokens.size());
  if (observer) x = keep_outputs(pieces, x);
  const Span2d<float> hidden(normed_.data(), x.rows, n_embd_);
  norm(x, weights_.output_norm, hidden);
  done(Stage::kNorm);
  return hidden;
}

void ForwardPass::start(std::span<const Piece> pieces, Span2d<float> x) {
  place(pieces);
  embed(pieces, x);
}

void ForwardPass::run_layer(std::size_t index, std::span<const Piece> pieces, Span2d<float> x) {
  place(pieces);
  reserve(rows_.size());
  add_attention(index, pieces, x, false);
  add_mlp(weights_.layers[index], x);
}

void ForwardPass::finish(Span2d<const float> x, Span2d<float> hidden) const {
  norm(x, weights_.output_norm, hidden);
}

Result<void> ForwardPass::project(Span2d<const float> hidden, Span2d<float> logits) {
  apply(weights_.output, hidden, logits);
  if (config_.logit_soft_cap > 0)
    for_each_row(logits.rows,
                 [&](std::size_t row) { ops::soft_cap(logits.row(row), config_.logit_soft_cap); });
  done(Stage::kLogits);
  return {};
}

void ForwardPass::embed(std::span<const Piece> pieces, Span2d<float> x) {
  for_each_row(x.rows, [&](std::size_t row) {
    const auto& [piece, position] = rows_[row];
    const Token token = pieces[piece].tokens[position - size(pieces[piece].cache->size())];
    dequantize_rows(weights_.embedding.matrices.front(), size(token), x.middle_rows(row, 1));
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

Span2d<float> ForwardPass::add_attention(std::size_t index, std::span<const Piece> pieces,
                                         Span2d<float> x, bool only_outputs) {
  const LayerWeights& layer = weights_.layers[index];
  const Span2d<float> normed(normed_.data(), x.rows, n_embd_);
  const Span2d<float> qkv(qkv_.data(), x.rows, n_heads_ * dim_k_ + n_kv_heads_ * (dim_k_ + dim_v_));
  norm(x, layer.attn_norm, normed);
  done(Stage::kNorm);
  apply(layer.qkv, normed, qkv);
  done(Stage::kQkv);
  rotate_and_store(index, pieces, qkv);
  done(Stage::kRope);

  if (only_outputs) x = keep_outputs(pieces, x);
  const Span2d<float> heads(heads_.data(), x.rows, n_heads_ * dim_v_);
  const Span2d<float> branch(branch_.data(), x.rows, n_embd_);
  list_queries(pieces, only_outputs, qkv, heads);
  const bool local = config_.layer_is_local[index];
  attention_.run({.layer = index,
                  .n_heads = n_heads_,
                  .window = local ? size(config_.sliding_window) : 0,
                  .soft_cap = config_.attention_soft_cap},
                 queries_);
  done(Stage::kAttention);
  apply(layer.attn_output, heads, branch);
  done(Stage::kAttentionOutput);
  add_residual(branch, layer.attn_post_norm, x);
  done(Stage::kResidual);
  return x;
}

/// Moves the wanted rows of each piece together.
Span2d<float> ForwardPass::keep_outputs(std::span<const Piece> pieces, Span2d<float> x) {
  std::size_t kept = 0, end = 0;
  for (const Piece& piece : pieces) {
    end += piece.tokens.size();
    for (std::size_t row = end - piece.outputs; row < end; ++row, ++kept)
      if (row != kept) std::ranges::copy(x.row(row), x.row(kept).begin());
  }
  return x.middle_rows(0, kept);
}

/// queries_ = the queries of each piece, or of its wanted rows only; `out` has just these rows.
void ForwardPass::list_queries(std::span<const Piece> pieces, bool only_outputs, Span2d<float> qkv,
                               Span2d<float> out) {
  const Span2d<const float> q(qkv.data, qkv.rows, n_heads_ * dim_k_, qkv.stride);
  queries_.clear();
  std::size_t end = 0, done = 0;
  for (const Piece& piece : pieces) {
    const std::size_t rows = only_outputs ? piece.outputs : piece.tokens.size();
    end += piece.tokens.size();
    queries_.push_back({.cache = piece.cache,
                        .first_position = size(piece.cache->size()) + piece.tokens.size() - rows,
                        .q = q.middle_rows(end - rows, rows),
                        .out = out.middle_rows(done, rows)});
    done += rows;
  }
}

void ForwardPass::rotate_and_store(std::size_t index, std::span<const Piece> pieces,
                                   Span2d<float> qkv) {
  const LayerWeights& layer = weights_.layers[index];
  const bool local = config_.layer_is_local[index];
  const std::size_t q_width = n_heads_ * dim_k_, k_width = n_kv_heads_ * dim_k_;

  const auto rotate = [&](std::span<float> heads, std::span<const float> weight,
                          const RopeTable& table, std::size_t position) {
    if (!weight.empty())
      for (std::size_t at = 0; at < heads.size(); at += dim_k_)
        ops::rms_norm(heads.subspan(at, dim_k_), weight, config_.norm_eps,
                      heads.subspan(at, dim_k_));
    if (config_.rope_layout == RopeLayout::kNormal)
      ops::rope_normal(heads, dim_k_, table.cos(position), table.sin(position));
    else
      ops::rope_neox(heads, dim_k_, table.cos(position), table.sin(position));
  };
  for_each_row(qkv.rows, [&](std::size_t row) {
    const auto& [piece, position] = rows_[row];
    const KvCache& cache = *pieces[piece].cache;
    const RopeTable& table = table_of(cache, local);
    const std::span<float> q = qkv.row(row).first(q_width);
    const std::span<float> k = qkv.row(row).subspan(q_width, k_width);
    const std::span<float> v = qkv.row(row).subspan(q_width + k_width);
    rotate(q, layer.q_norm, table, position);
    rotate(k, layer.k_norm, table, position);
    ops::scale(q, config_.attention_scale);
    const CacheAccess access(cache);
    for (std::size_t head = 0; head < n_kv_heads_; ++head) {
      access.store(index, head, position, k.subspan(head * dim_k_, dim_k_),
                   v.subspan(head * dim_v_, dim_v_));
    }
  });
}

void ForwardPass::add_mlp(const LayerWeights& layer, Span2d<float> x) {
  const Span2d<float> normed(normed_.data(), x.rows, n_embd_);
  const Span2d<float> gate_up(gate_up_.data(), x.rows, 2 * n_ff_);
  const Span2d<float> product(gate_up_.data(), x.rows, n_ff_, 2 * n_ff_);  // over the gates
  const Span2d<float> branch(branch_.data(), x.rows, n_embd_);

  norm(x, layer.ffn_norm, normed);
  done(Stage::kNorm);
  apply(layer.gate_up, normed, gate_up);
  done(Stage::kGateUp);
  for_each_row(x.rows, [&](std::size_t row) {
    const std::span<float> gate = gate_up.row(row).first(n_ff_), up = gate_up.row(row).last(n_ff_);
    if (config_.activation == Activation::kSilu)
      ops::silu_mul(gate, up, gate);
    else
      ops::gelu_tanh_mul(gate, up, gate);
  });
  done(Stage::kActivation);
  apply(layer.down, product, branch);
  done(Stage::kDown);
  add_residual(branch, layer.ffn_post_norm, x);
  done(Stage::kResidual);
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
