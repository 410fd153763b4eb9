#include "cuda/model/pass.hpp"

#include <algorithm>
#include <string>

#include "cuda/attention.hpp"
#include "cuda/format_kernels.hpp"
#include "cuda/rotate.cuh"

namespace kquant::cuda {

DevicePass::DevicePass(Rank rank, Share share, const Weights& weights)
    : rank_(std::move(rank)), share_(std::move(share)), chunk_(share_.config, weights) {}

DevicePass::~DevicePass() {
  if (pinned_ != nullptr) queue()->release_pinned(pinned_);
}

Result<std::unique_ptr<DevicePass>> DevicePass::make(Rank rank, Share share,
                                                     const Weights& weights) {
  const int dim = std::max(share.config.head_dim_k, share.config.head_dim_v);
  if (dim > kMostHeadDim)
    return fail(ErrorCode::kUnsupported, "heads of " + std::to_string(dim) +
                                             " dimensions: on a GPU at most " +
                                             std::to_string(kMostHeadDim));
  std::unique_ptr<DevicePass> pass(new DevicePass(std::move(rank), std::move(share), weights));
  const Share& s = pass->share_;
  const std::size_t needed = s.device_bytes();
  if (auto reserved = pass->reserve(); !reserved) {
    Error error = reserved.error();
    if (error.code == ErrorCode::kOutOfMemory)  // of scratch, which no quantization makes smaller
      error.message += ", and " + megabytes(needed) +
                       " for the weights: the model does not fit, however quantized";
    return fail(std::move(error));
  }
  const auto left = pass->queue()->free_memory();
  if (!left) return fail(left.error());
  if (needed > *left) return fail(pass->no_room(*left));
  return pass;
}

Error DevicePass::no_room(std::size_t left) const {
  const DeviceInfo& info = queue()->info();
  const std::size_t needed = share_.device_bytes();
  return {
      ErrorCode::kOutOfMemory,
      "GPU " + std::to_string(info.ordinal) + " (" + info.name + "): " +
          (share_.ranks == 1 ? "the weights need "
                             : "its share of the weights, as one of " +
                                   std::to_string(share_.ranks) + " GPUs, needs ") +
          megabytes(needed) + ", but " + megabytes(left) + " are free: a quantization to " +
          std::to_string(std::min<std::size_t>(99, 100 * left / std::max<std::size_t>(needed, 1))) +
          " % of the size would fit, before keys and values"};
}

Result<void> DevicePass::upload(const Weights& weights) {
  auto uploaded = DeviceWeights::upload(queue(), weights, share_);
  if (!uploaded) {
    // Norms and what a device rounds up are not in the sum: by little it may not fit all the same.
    const auto left = queue()->free_memory();
    return fail(uploaded.error().code == ErrorCode::kOutOfMemory && left ? no_room(*left)
                                                                         : uploaded.error());
  }
  weights_ = std::move(*uploaded);
  return {};
}

Result<void> DevicePass::reserve() {
  const Config& config = share_.config;
  const std::size_t n = Backend::kChunk, n_embd = size(config.n_embd), n_ff = size(config.n_ff);
  const std::size_t q_heads = size(config.n_heads), kv_heads = size(config.n_kv_heads);
  const std::size_t dim_k = size(config.head_dim_k), dim_v = size(config.head_dim_v);
  Result<void> state;
  const auto floats = [&](Buffer& buffer, std::size_t count) {
    if (!state) return;
    if (auto made = grow(queue(), buffer, count * sizeof(float), "a chunk of tokens"); !made)
      state = fail(made.error());
  };
  const auto halves = [&](HalfRowsBuffer& buffer, std::size_t cols) {
    if (!state) return;
    auto made = HalfRowsBuffer::make(queue(), n, cols);
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
  floats(logits_, kLogitRows * size(config.vocab_size));
  floats(q_, n * q_heads * size(KvLayout::padded(config.head_dim_k)) / 2);
  halves(normed_, n_embd);
  halves(heads_, q_heads * dim_v);
  halves(gated_, n_ff);
  if (!state) return state;
  // Attention writes its results as they are, and no columns beyond the last head.
  queue()->fill(heads_.data.as<>(), std::byte{0}, heads_.data.bytes());
  const std::vector<float> ones(n, 1.0f);
  queue()->copy_to_device(heads_.rows.scale, ones.data(), n * sizeof(float));
  auto scratch = ProductScratch::make(queue());
  if (!scratch) return fail(scratch.error());
  product_scratch_ = std::move(*scratch);
  const std::size_t logit_bytes = kLogitRows * size(config.vocab_size) * sizeof(float);
  auto pinned = queue()->allocate_pinned(logit_bytes);
  if (!pinned)
    return fail(pinned.error(), megabytes(logit_bytes) + " of the CPU's memory for logits");
  pinned_ = static_cast<float*>(*pinned);
  hidden_on_host_.resize(n * n_embd);
  return queue()->finish();
}

Result<bool> DevicePass::place(std::span<const ChunkPiece> pieces, bool q8) {
  auto moved = chunk_.place(queue(), share_, pieces, q8);
  if (!moved) return moved;
  // Columns beyond the last head, which attention does not write, are elsewhere in another order.
  const RowOrder order = row_order_for(queue()->info(), chunk_.rows());
  if (order != std::exchange(heads_order_, order))
    queue()->fill(heads_.data.as<>(), std::byte{0}, heads_.data.bytes());
  return moved;
}

Result<std::unique_ptr<Recording>> DevicePass::record(bool to_logits) {
  queue()->begin_recording();
  run(to_logits);
  return queue()->end_recording();
}

void DevicePass::sum(float* x, int rows) {
  if (rank_.communicator) rank_.communicator->sum(x, size(rows) * size(share_.config.n_embd));
}

bool DevicePass::is_straight(const DeviceVector& post_norm) const {
  return post_norm.data() == nullptr && rank_.communicator == nullptr;
}

HalfRows DevicePass::for_rows(const HalfRowsBuffer& buffer, int rows) const {
  HalfRows out = buffer.rows;
  out.order = row_order_for(queue()->info(), rows);
  return out;
}

void DevicePass::multiply_all(const DeviceProjection& projection, const HalfRows& x, int rows,
                              const Destination& to) {
  std::size_t first = 0;
  for (const auto& part : projection.parts) {
    Destination here = to;
    here.y += first;
    if (projection.bias.data() != nullptr) here.bias = projection.bias.data() + first;
    multiply(*queue(), *part, x, rows, here, product_scratch_);
    first += part->rows;
  }
}

/// What a layer adds to x: at once, or into branch_, for the next norm to add.
void DevicePass::enqueue_branch(const DeviceProjection& projection, const HalfRows& x,
                                const DeviceVector& post_norm) {
  const bool straight = is_straight(post_norm);
  float* const to = straight ? x_.as<float>() : branch_.as<float>();
  multiply_all(projection, x, chunk_.rows(),
               {.y = to, .stride = size(share_.config.n_embd), .add = straight});
  sum(to, chunk_.rows());
}

Norm DevicePass::norm(const DeviceVector* post_norm, const DeviceVector& weight, int rows) const {
  const bool branch = post_norm != nullptr && !is_straight(*post_norm);
  return {.x = x_.as<float>(),
          .branch = branch ? branch_.as<float>() : nullptr,
          .post_weight = branch ? post_norm->data() : nullptr,
          .weight = weight.data(),
          .eps = share_.config.norm_eps,
          .out = for_rows(normed_, rows)};
}

void DevicePass::enqueue_attention(std::size_t index) {
  const Config& config = share_.config;
  const DeviceLayer& layer = weights_.layers[index];
  const bool local = config.layer_is_local[index];
  const auto& [plan, tiles, merges] = chunk_.attention(local);
  const DeviceChunk::Rope rope = chunk_.rope(local);
  const KvLayout& kv = chunk_.kv();
  const int n_heads = config.n_heads + 2 * config.n_kv_heads;
  queue()->launch({.x = chunk_.rows(),
                   .y = (n_heads + kRotateWarps - 1) / kRotateWarps,
                   .threads = kRotateWarps * kWarp,
                   .shared = kRotateShared},
                  rotate_and_store<>,
                  Rotate{.qkv = qkv_.as<float>(),
                         .q_heads = config.n_heads,
                         .kv = kv,
                         .layer = static_cast<int>(index),
                         .rows = chunk_.places(),
                         .q_norm = layer.q_norm.data(),
                         .k_norm = layer.k_norm.data(),
                         .eps = config.norm_eps,
                         .q_scale = config.attention_scale,
                         .rope = {rope.table[0], rope.table[1]},
                         .pairs = rope.pairs,
                         .neox = config.rope_layout == RopeLayout::kNeox,
                         .q = q_.as<std::uint16_t>()});
  const AttentionCall call{.tiles = tiles.as<AttentionTile>(),
                           .merges = merges.as<AttentionMerge>(),
                           .kv = kv,
                           .layer = static_cast<int>(index),
                           .q_heads = config.n_heads,
                           .window = local ? config.sliding_window : 0,
                           .soft_cap = config.attention_soft_cap,
                           .q = q_.as<std::uint16_t>(),
                           .out = for_rows(heads_, chunk_.rows()),
                           .parts = chunk_.parts()};
  attend(*queue(), call, plan.grid());
}

void DevicePass::run(bool to_logits) {
  const Config& config = share_.config;
  const int rows = chunk_.rows();
  const DeviceMatrix::State& embedding = *weights_.embedding.parts.front();
  queue()->launch({.x = rows, .threads = kLookupThreads}, format_kernels_of(embedding.type).look_up,
                  Lookup{.table = embedding.table(),
                         .row_of = &chunk_.places()->token,
                         .row_stride = sizeof(RowPlace) / sizeof(int),
                         .factor = config.embedding_scale,
                         .out = x_.as<float>()});
  sum(x_.as<float>(), rows);

  const DeviceVector* post = nullptr;
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    const DeviceLayer& layer = weights_.layers[i];
    enqueue_norm(norm(post, layer.attn_norm, rows), rows);
    multiply_all(layer.qkv, for_rows(normed_, rows), rows,
                 {.y = qkv_.as<float>(), .stride = layer.qkv.outputs});
    enqueue_attention(i);
    enqueue_branch(layer.attn_output, for_rows(heads_, rows), layer.attn_post_norm);
    enqueue_norm(norm(&layer.attn_post_norm, layer.ffn_norm, rows), rows);
    multiply_all(layer.gate_up, for_rows(normed_, rows), rows,
                 {.y = gate_up_.as<float>(), .stride = layer.gate_up.outputs});
    const Gate gate{.gate_up = gate_up_.as<float>(),
                    .gelu = config.activation == Activation::kGelu,
                    .out = for_rows(gated_, rows)};
    queue()->launch(rows_launch(rows, gate.out.cols), gate_rows<>, gate);
    enqueue_branch(layer.down, for_rows(gated_, rows), layer.ffn_post_norm);
    post = &layer.ffn_post_norm;
  }
  if (chunk_.outputs() == 0) return;
  Norm last = norm(post, weights_.output_norm, chunk_.outputs());
  last.row_of = chunk_.output_rows();
  if (!to_logits) last.exact = hidden_.as<float>();
  enqueue_norm(last, chunk_.outputs());
  if (to_logits) enqueue_logits(chunk_.outputs());
}

void DevicePass::enqueue_norm(const Norm& norm, int rows) {
  queue()->launch(rows_launch(rows, norm.out.cols), norm_rows<>, norm);
}

void DevicePass::enqueue_logits(int rows) {
  const std::size_t n_vocab = size(share_.config.vocab_size);
  multiply_all(weights_.output(), for_rows(normed_, rows), rows,
               {.y = logits_.as<float>(), .stride = n_vocab});
  const float cap = share_.config.logit_soft_cap;
  if (cap == 0) return;
  const std::size_t n = size(rows) * n_vocab;
  queue()->launch(soft_cap_launch(n), soft_cap<>, SoftCap{logits_.as<float>(), n, cap});
}

void DevicePass::project(Span2d<const float> hidden) {
  for (std::size_t row = 0; row < hidden.rows; ++row)
    queue()->copy_to_device(hidden_.as<float>() + row * hidden.cols, hidden.row(row).data(),
                            hidden.cols * sizeof(float));
  const int rows = static_cast<int>(hidden.rows);
  const Convert convert{hidden_.as<float>(), for_rows(normed_, rows)};
  queue()->launch(rows_launch(rows, convert.out.cols), convert_rows<>, convert);
  enqueue_logits(rows);
}

void DevicePass::fetch_hidden() {
  const std::size_t n = size(chunk_.outputs()) * size(share_.config.n_embd);
  if (n > 0) queue()->copy_to_host(hidden_on_host_.data(), hidden_.as<>(), n * sizeof(float));
}

void DevicePass::fetch_logits(std::size_t rows) {
  queue()->copy_to_host(pinned_, logits_.as<>(),
                        rows * size(share_.config.vocab_size) * sizeof(float));
}

Result<void> DevicePass::finish() {
  auto done = queue()->finish();
  if (!done || !rank_.communicator) return done;
  return rank_.communicator->check();
}

void DevicePass::abort() {
  if (rank_.communicator) rank_.communicator->abort();
}

}  // namespace kquant::cuda
