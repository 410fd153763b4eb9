#include "cuda/model/pass.hpp"

#include <algorithm>
#include <cstring>

#include "cuda/attention.cuh"
#include "cuda/format_kernels.hpp"
#include "cuda/rotate.cuh"
#include "cuda/rows.cuh"
#include "model/cache_access.hpp"

namespace kquant::cuda {
namespace {

std::size_t size(int n) {
  return static_cast<std::size_t>(n);
}

constexpr std::size_t kMostRecordings = 32;

/// The attention kernel for heads of this many dimensions.
struct AttentionKernel {
  void (*kernel)(AttentionCall);
  std::size_t shared;
};
AttentionKernel attention_for(int dim, bool q8) {
  const auto of = [&]<int kDim>() {
    return AttentionKernel{q8 ? attention<kDim, true> : attention<kDim, false>,
                           AttentionShape<kDim>::kShared};
  };
  if (dim <= 64) return of.template operator()<64>();
  if (dim <= 128) return of.template operator()<128>();
  return of.template operator()<256>();
}

std::string megabytes(std::size_t bytes) {
  return std::to_string((bytes + (1u << 20) - 1) >> 20) + " MiB";
}

}  // namespace

Result<bool> grow(const std::shared_ptr<Queue>& queue, Buffer& buffer, std::size_t bytes,
                  std::string_view what) {
  if (bytes <= buffer.bytes()) return false;
  auto made = Buffer::allocate(queue, bytes, what);
  if (!made) return fail(made.error());
  buffer = std::move(*made);
  return true;
}

DevicePass::DevicePass(std::shared_ptr<Queue> queue, const Config& config, const Weights& weights)
    : queue_(std::move(queue)),
      config_(config),
      rope_(global_frequencies(
          config, weights.rope_freqs.empty() ? weights.rope_factors_short : weights.rope_freqs)),
      rope_long_(global_frequencies(
          config, weights.rope_freqs.empty() ? weights.rope_factors_long : weights.rope_freqs)),
      rope_local_(local_frequencies(config)) {}

DevicePass::~DevicePass() {
  if (pinned_ != nullptr) queue_->release_pinned(pinned_);
}

Result<std::unique_ptr<Backend>> DevicePass::load(const std::shared_ptr<Queue>& queue,
                                                  const Config& config, const Weights& weights) {
  if (std::max(config.head_dim_k, config.head_dim_v) > kMostHeadDim)
    return fail(ErrorCode::kUnsupported,
                "heads of " + std::to_string(std::max(config.head_dim_k, config.head_dim_v)) +
                    " dimensions: on a GPU at most " + std::to_string(kMostHeadDim));
  std::unique_ptr<DevicePass> pass(new DevicePass(queue, config, weights));
  if (auto reserved = pass->reserve(); !reserved) return fail(reserved.error());
  const auto left = queue->free_memory();
  if (!left) return fail(left.error());
  const std::size_t needed = device_bytes(weights);
  if (needed > *left)
    return fail(ErrorCode::kOutOfMemory,
                "GPU " + std::to_string(queue->info().ordinal) + " (" + queue->info().name +
                    "): the weights need " + megabytes(needed) + ", but " + megabytes(*left) +
                    " are free: a quantization to " +
                    std::to_string(100 * *left / std::max<std::size_t>(needed, 1)) +
                    " % of the size would fit, before keys and values");
  auto uploaded = DeviceWeights::upload(queue, weights);
  if (!uploaded) return fail(uploaded.error());
  pass->weights_ = std::move(*uploaded);
  return std::unique_ptr<Backend>(std::move(pass));
}

Result<void> DevicePass::reserve() {
  const std::size_t n = kChunk, n_embd = size(config_.n_embd), n_ff = size(config_.n_ff);
  const std::size_t q_heads = size(config_.n_heads), kv_heads = size(config_.n_kv_heads);
  const std::size_t dim_k = size(config_.head_dim_k), dim_v = size(config_.head_dim_v);
  Result<void> state;
  const auto floats = [&](Buffer& buffer, std::size_t count) {
    if (!state) return;
    if (auto made = grow(queue_, buffer, count * sizeof(float), "a chunk of tokens"); !made)
      state = fail(made.error());
  };
  const auto halves = [&](HalfRowsBuffer& buffer, std::size_t cols) {
    if (!state) return;
    auto made = HalfRowsBuffer::make(queue_, n, cols);
    if (made)
      buffer = std::move(*made);
    else
      state = fail(made.error());
  };
  floats(x_, n * n_embd);
  floats(branch_, n * n_embd);
  floats(hidden_, n * n_embd);
  floats(qkv_, n * (q_heads * dim_k + kv_heads * (dim_k + dim_v)));
  floats(gate_up_, n * 2 * n_ff);
  floats(logits_, kLogitRows * size(config_.vocab_size));
  floats(q_, n * q_heads * size(KvLayout::padded(config_.head_dim_k)) / 2);
  floats(places_, n * sizeof(RowPlace) / sizeof(float));
  floats(output_rows_, n);
  halves(normed_, n_embd);
  halves(heads_, q_heads * dim_v);
  halves(gated_, n_ff);
  if (!state) return state;
  // Attention writes its results as they are, and no columns beyond the last head.
  queue_->fill(heads_.data.as<>(), std::byte{0}, heads_.data.bytes());
  const std::vector<float> ones(n, 1.0f);
  queue_->copy_to_device(heads_.rows.scale, ones.data(), n * sizeof(float));
  auto scratch = ProductScratch::make(queue_);
  if (!scratch) return fail(scratch.error());
  product_scratch_ = std::move(*scratch);
  auto pinned = queue_->allocate_pinned(kLogitRows * size(config_.vocab_size) * sizeof(float));
  if (!pinned) return fail(pinned.error());
  pinned_ = static_cast<float*>(*pinned);
  hidden_on_host_.resize(n * n_embd);
  return queue_->finish();
}

KvLayout DevicePass::kv_layout(KvType type) const {
  return {config_.n_layers, config_.n_kv_heads, config_.head_dim_k, config_.head_dim_v,
          type == KvType::kQ8_0};
}

Result<void> DevicePass::check(const KvCache& cache) const {
  if (cache.type() == KvType::kF32)
    return fail(ErrorCode::kUnsupported, "a cache of type f32 on a GPU: only f16 and q8_0");
  if (cache.size() == 0) return {};
  const auto* storage = dynamic_cast<const DeviceKv*>(CacheAccess(cache).elsewhere());
  if (storage == nullptr || !storage->is_on(*queue_))
    return fail(ErrorCode::kInvalidArgument, "forward: the cache's tokens are on another device");
  return {};
}

/// Device memory for caches that have none yet.
Result<void> DevicePass::make_room(std::span<const Piece> pieces) {
  for (const Piece& piece : pieces) {
    const auto* storage = dynamic_cast<const DeviceKv*>(CacheAccess(*piece.cache).elsewhere());
    if (storage != nullptr && storage->is_on(*queue_)) continue;
    auto made = DeviceKv::make(queue_, kv_layout(piece.cache->type()), piece.cache->capacity());
    if (!made) return fail(made.error());
    CacheAccess::put_elsewhere(*piece.cache, std::move(*made));
  }
  return {};
}

Result<void> DevicePass::place(std::span<const Piece> pieces) {
  for (const Piece& piece : pieces)
    if (piece.cache->type() != pieces.front().cache->type())
      return fail(ErrorCode::kInvalidArgument,
                  "forward: on a GPU all caches of a batch have the same type");
  if (auto room = make_room(pieces); !room) return room;
  // Members, because copies to the device may still read them when this returns.
  std::vector<RowPlace>& places = places_on_host_;
  std::vector<int>& output_rows = output_rows_on_host_;
  places.clear();
  output_rows.clear();
  planned_.clear();
  int most = 0;
  for (const Piece& piece : pieces) {
    const auto& storage = static_cast<const DeviceKv&>(*CacheAccess(*piece.cache).elsewhere());
    const int n = static_cast<int>(piece.tokens.size()), first = static_cast<int>(places.size());
    planned_.push_back({storage.data(), storage.capacity(), first, piece.cache->size(), n});
    for (int i = 0; i < n; ++i) {
      places.push_back({.cache = storage.data(),
                        .capacity = storage.capacity(),
                        .token = piece.tokens[size(i)],
                        .position = piece.cache->size() + i,
                        .rope = storage.capacity() > config_.original_context_length});
      if (size(n - i) <= piece.outputs) output_rows.push_back(first + i);
    }
    most = std::max(most, piece.cache->size() + n);
  }
  rows_ = static_cast<int>(places.size());
  outputs_ = static_cast<int>(output_rows.size());
  kv_ = kv_layout(pieces.front().cache->type());
  // Columns beyond the last head, which attention does not write, are elsewhere in another order.
  const RowOrder order = row_order_for(queue_->info(), rows_);
  if (order != std::exchange(heads_order_, order))
    queue_->fill(heads_.data.as<>(), std::byte{0}, heads_.data.bytes());

  const int group = config_.n_heads / config_.n_kv_heads, window = config_.sliding_window;
  const int blocks = 2 * queue_->info().multiprocessors;
  global_ = plan_attention(planned_, config_.n_kv_heads, group, 0, blocks);
  local_ = window == 0 ? AttentionPlan{}
                       : plan_attention(planned_, config_.n_kv_heads, group, window, blocks);

  bool moved = false;
  Result<void> state;
  const auto copy = [&]<class T>(Buffer& to, const std::vector<T>& from) {
    if (!state || from.empty()) return;
    // Twice as much as is needed now: a buffer that moves makes recorded steps useless.
    const auto grown = to.bytes() >= from.size() * sizeof(T)
                           ? Result<bool>(false)
                           : grow(queue_, to, 2 * from.size() * sizeof(T), "a chunk of tokens");
    if (!grown) {
      state = fail(grown.error());
      return;
    }
    moved |= *grown;
    queue_->copy_to_device(to.as<>(), from.data(), from.size() * sizeof(T));
  };
  copy(places_, places);
  copy(output_rows_, output_rows);
  copy(global_tiles_, global_.tiles);
  copy(global_merges_, global_.merges);
  copy(local_tiles_, local_.tiles);
  copy(local_merges_, local_.merges);
  if (!state) return state;
  if (global_.parts > 1) {
    const std::size_t n = global_.tiles.size() * size(kQueryRows) *
                          size(KvLayout::padded(config_.head_dim_v) + 2) * sizeof(float);
    const auto grown = grow(queue_, parts_, n, "attention");
    if (!grown) return fail(grown.error());
    moved |= *grown;
  }
  for (DeviceRope* rope : {&rope_, &rope_long_, &rope_local_}) {
    const auto extended = rope->extend(queue_, most);
    if (!extended) return fail(extended.error());
    moved |= *extended;
  }
  if (moved) recordings_.clear();
  return {};
}

Launch DevicePass::rows_launch(int rows) const {
  return {.x = rows, .threads = kRowThreads, .shared = kRowShared};
}

HalfRows DevicePass::for_rows(const HalfRowsBuffer& buffer, int rows) const {
  HalfRows out = buffer.rows;
  out.order = row_order_for(queue_->info(), rows);
  return out;
}

void DevicePass::multiply_all(const DeviceProjection& projection, const HalfRows& x, int rows,
                              const Destination& to) {
  std::size_t first = 0;
  for (const auto& part : projection.parts) {
    Destination here = to;
    here.y += first;
    if (projection.bias.data() != nullptr) here.bias = projection.bias.data() + first;
    multiply(*queue_, *part, x, rows, here, product_scratch_);
    first += part->rows;
  }
}

void DevicePass::enqueue_norm(const float* branch, const DeviceVector& post_norm,
                              const DeviceVector& weight) {
  queue_->launch(rows_launch(rows_), norm_rows<>,
                 Norm{.x = x_.as<float>(),
                      .branch = branch,
                      .post_weight = post_norm.data(),
                      .weight = weight.data(),
                      .eps = config_.norm_eps,
                      .out = for_rows(normed_, rows_)});
}

void DevicePass::enqueue_attention(std::size_t index) {
  const DeviceLayer& layer = weights_.layers[index];
  const bool local = config_.layer_is_local[index];
  const AttentionPlan& plan = local ? local_ : global_;
  const int n_heads = config_.n_heads + 2 * config_.n_kv_heads;
  const float* table = local ? rope_local_.data() : rope_.data();
  queue_->launch({.x = rows_,
                  .y = (n_heads + kRotateWarps - 1) / kRotateWarps,
                  .threads = kRotateWarps * kWarp,
                  .shared = kRotateShared},
                 rotate_and_store<>,
                 Rotate{.qkv = qkv_.as<float>(),
                        .q_heads = config_.n_heads,
                        .kv = kv_,
                        .layer = static_cast<int>(index),
                        .rows = places_.as<RowPlace>(),
                        .q_norm = layer.q_norm.data(),
                        .k_norm = layer.k_norm.data(),
                        .eps = config_.norm_eps,
                        .q_scale = config_.attention_scale,
                        .rope = {table, local ? table : rope_long_.data()},
                        .pairs = local ? rope_local_.pairs() : rope_.pairs(),
                        .neox = config_.rope_layout == RopeLayout::kNeox,
                        .q = q_.as<std::uint16_t>()});
  const AttentionCall call{.tiles = (local ? local_tiles_ : global_tiles_).as<AttentionTile>(),
                           .merges = (local ? local_merges_ : global_merges_).as<AttentionMerge>(),
                           .kv = kv_,
                           .layer = static_cast<int>(index),
                           .q_heads = config_.n_heads,
                           .window = local ? config_.sliding_window : 0,
                           .soft_cap = config_.attention_soft_cap,
                           .q = q_.as<std::uint16_t>(),
                           .out = for_rows(heads_, rows_),
                           .parts = parts_.as<float>()};
  const AttentionKernel kernel = attention_for(std::max(kv_.padded_k(), kv_.padded_v()), kv_.q8);
  queue_->launch({.x = static_cast<int>(plan.tiles.size()),
                  .threads = kAttentionThreads,
                  .shared = kernel.shared},
                 kernel.kernel, call);
  if (!plan.merges.empty())
    queue_->launch(
        {.x = static_cast<int>(plan.merges.size()), .y = plan.most_rows(), .threads = kMostHeadDim},
        merge_attention<>, call);
}

void DevicePass::enqueue_layers(bool to_logits) {
  const std::size_t n_embd = size(config_.n_embd), n_ff = size(config_.n_ff);
  const DeviceMatrix::State& embedding = *weights_.embedding.parts.front();
  queue_->launch({.x = rows_, .threads = kLookupThreads}, format_kernels_of(embedding.type).look_up,
                 Lookup{.table = embedding.table(),
                        .row_of = &places_.as<RowPlace>()->token,
                        .row_stride = sizeof(RowPlace) / sizeof(int),
                        .factor = config_.embedding_scale,
                        .out = x_.as<float>()});

  // Where there is no post-norm, products are added to x as they leave.
  const auto destination = [&](const DeviceVector& post_norm) {
    const bool straight = post_norm.data() == nullptr;
    return Destination{
        .y = straight ? x_.as<float>() : branch_.as<float>(), .stride = n_embd, .add = straight};
  };
  const auto branch_of = [&](const DeviceVector& post_norm) {
    return post_norm.data() == nullptr ? nullptr : branch_.as<float>();
  };
  static const DeviceVector kNone;
  const DeviceVector* post = &kNone;
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    const DeviceLayer& layer = weights_.layers[i];
    enqueue_norm(branch_of(*post), *post, layer.attn_norm);
    multiply_all(layer.qkv, for_rows(normed_, rows_), rows_,
                 {.y = qkv_.as<float>(), .stride = layer.qkv.outputs});
    enqueue_attention(i);
    multiply_all(layer.attn_output, for_rows(heads_, rows_), rows_,
                 destination(layer.attn_post_norm));
    enqueue_norm(branch_of(layer.attn_post_norm), layer.attn_post_norm, layer.ffn_norm);
    multiply_all(layer.gate_up, for_rows(normed_, rows_), rows_,
                 {.y = gate_up_.as<float>(), .stride = 2 * n_ff});
    queue_->launch(rows_launch(rows_), gate_rows<>,
                   Gate{.gate_up = gate_up_.as<float>(),
                        .gelu = config_.activation == Activation::kGelu,
                        .out = for_rows(gated_, rows_)});
    multiply_all(layer.down, for_rows(gated_, rows_), rows_, destination(layer.ffn_post_norm));
    post = &layer.ffn_post_norm;
  }
  if (outputs_ == 0) return;
  queue_->launch(rows_launch(outputs_), norm_rows<>,
                 Norm{.x = x_.as<float>(),
                      .branch = branch_of(*post),
                      .post_weight = post->data(),
                      .weight = weights_.output_norm.data(),
                      .eps = config_.norm_eps,
                      .row_of = output_rows_.as<int>(),
                      .out = for_rows(normed_, outputs_),
                      .exact = to_logits ? nullptr : hidden_.as<float>()});
  if (to_logits) enqueue_logits(outputs_);
}

void DevicePass::enqueue_logits(int rows) {
  const std::size_t n_vocab = size(config_.vocab_size);
  multiply_all(weights_.output(), for_rows(normed_, rows), rows,
               {.y = logits_.as<float>(), .stride = n_vocab});
  if (config_.logit_soft_cap == 0) return;
  const std::size_t n = size(rows) * n_vocab;
  queue_->launch(rows_launch(static_cast<int>((n + kRowThreads - 1) / kRowThreads)), soft_cap<>,
                 SoftCap{logits_.as<float>(), n, config_.logit_soft_cap});
}

Result<void> DevicePass::enqueue(std::span<const Piece> pieces, bool to_logits) {
  if (auto placed = place(pieces); !placed) return placed;
  const bool decoding =
      std::ranges::all_of(pieces, [](const Piece& piece) { return piece.tokens.size() == 1; });
  if (!decoding) {
    enqueue_layers(to_logits);
    return {};
  }
  const Shape shape(rows_, outputs_, global_.parts, global_.tiles.size(), local_.tiles.size(),
                    to_logits, kv_.q8);
  const auto it = recordings_.find(shape);
  if (it == recordings_.end()) {
    if (recordings_.size() >= kMostRecordings) recordings_.clear();
    recordings_.emplace(shape, nullptr);
    enqueue_layers(to_logits);
    return {};
  }
  if (it->second == nullptr) {
    queue_->begin_recording();
    enqueue_layers(to_logits);
    auto recording = queue_->end_recording();
    if (!recording) return fail(recording.error());
    it->second = std::move(*recording);
  }
  queue_->replay(*it->second);
  return {};
}

Result<Span2d<const float>> DevicePass::run(std::span<const Piece> pieces) {
  const std::size_t n_embd = size(config_.n_embd);
  if (auto done = enqueue(pieces, false); !done) return fail(done.error());
  const std::size_t outputs = size(outputs_);
  if (outputs > 0)
    queue_->copy_to_host(hidden_on_host_.data(), hidden_.as<>(), outputs * n_embd * sizeof(float));
  if (auto done = queue_->finish(); !done) return fail(done.error());
  for (const Piece& piece : pieces) CacheAccess::advance(*piece.cache, piece.tokens.size());
  return Span2d<const float>(hidden_on_host_.data(), outputs, n_embd);
}

Result<void> DevicePass::run_to_logits(std::span<const Piece> pieces, Span2d<float> logits) {
  if (logits.rows == 0 || logits.rows > kLogitRows) return Backend::run_to_logits(pieces, logits);
  if (auto done = enqueue(pieces, true); !done) return done;
  const std::size_t n_vocab = size(config_.vocab_size);
  queue_->copy_to_host(pinned_, logits_.as<>(), logits.rows * n_vocab * sizeof(float));
  if (auto done = queue_->finish(); !done) return done;
  for (const Piece& piece : pieces) CacheAccess::advance(*piece.cache, piece.tokens.size());
  for (std::size_t row = 0; row < logits.rows; ++row)
    std::copy_n(pinned_ + row * n_vocab, n_vocab, logits.row(row).begin());
  return {};
}

Result<void> DevicePass::project(Span2d<const float> hidden, Span2d<float> logits) {
  const std::size_t n_embd = size(config_.n_embd), n_vocab = size(config_.vocab_size);
  for (std::size_t first = 0; first < hidden.rows; first += kLogitRows) {
    const std::size_t n = std::min(kLogitRows, hidden.rows - first);
    for (std::size_t row = 0; row < n; ++row)
      queue_->copy_to_device(hidden_.as<float>() + row * n_embd, hidden.row(first + row).data(),
                             n_embd * sizeof(float));
    queue_->launch(rows_launch(static_cast<int>(n)), convert_rows<>,
                   Convert{hidden_.as<float>(), for_rows(normed_, static_cast<int>(n))});
    enqueue_logits(static_cast<int>(n));
    queue_->copy_to_host(pinned_, logits_.as<>(), n * n_vocab * sizeof(float));
    if (auto done = queue_->finish(); !done) return done;
    for (std::size_t row = 0; row < n; ++row)
      std::copy_n(pinned_ + row * n_vocab, n_vocab, logits.row(first + row).begin());
  }
  return {};
}

}  // namespace kquant::cuda
