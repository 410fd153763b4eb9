#include "cuda/model/chunk.hpp"

#include <algorithm>

#include "model/backend.hpp"

namespace kquant::cuda {
namespace {

/// The token's row of a share's embedding; -1: another device has it.
int row_of(std::int32_t token, const Range& vocabulary) {
  const int row = token - static_cast<int>(vocabulary.begin);
  return row >= 0 && size(row) < vocabulary.size() ? row : -1;
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

KvLayout kv_layout(const Config& config, bool q8) {
  return {config.n_layers, config.n_kv_heads, config.head_dim_k, config.head_dim_v, q8};
}

DeviceChunk::DeviceChunk(const Config& config, const Weights& weights)
    : rope_(global_frequencies(
          config, weights.rope_freqs.empty() ? weights.rope_factors_short : weights.rope_freqs)),
      rope_long_(global_frequencies(
          config, weights.rope_freqs.empty() ? weights.rope_factors_long : weights.rope_freqs)),
      rope_local_(local_frequencies(config)) {}

DeviceChunk::Shape DeviceChunk::shape() const {
  return {rows_, outputs_, global_.plan.grid(), local_.plan.grid(), kv_.q8};
}

void DeviceChunk::lay_out(const Share& share, std::span<const ChunkPiece> pieces, int blocks) {
  const Config& config = share.config;
  places_on_host_.clear();
  output_rows_on_host_.clear();
  planned_.clear();
  for (const ChunkPiece& piece : pieces) {
    const int n = static_cast<int>(piece.tokens.size());
    const int first = static_cast<int>(places_on_host_.size());
    planned_.push_back({piece.cache, piece.capacity, first, piece.position, n});
    for (int i = 0; i < n; ++i) {
      places_on_host_.push_back({.cache = piece.cache,
                                 .capacity = piece.capacity,
                                 .token = row_of(piece.tokens[size(i)], share.vocabulary),
                                 .position = piece.position + i,
                                 .rope = piece.capacity > config.original_context_length});
      if (size(n - i) <= piece.outputs) output_rows_on_host_.push_back(first + i);
    }
  }
  rows_ = static_cast<int>(places_on_host_.size());
  outputs_ = static_cast<int>(output_rows_on_host_.size());
  const int group = config.n_heads / config.n_kv_heads, window = config.sliding_window;
  global_.plan = plan_attention(planned_, config.n_kv_heads, group, 0, blocks);
  local_.plan = window == 0 ? AttentionPlan{}
                            : plan_attention(planned_, config.n_kv_heads, group, window, blocks);
}

Result<bool> DeviceChunk::place(const std::shared_ptr<Queue>& queue, const Share& share,
                                std::span<const ChunkPiece> pieces, bool q8) {
  kv_ = kv_layout(share.config, q8);
  lay_out(share, pieces, 2 * queue->info().multiprocessors);

  bool moved = false;
  Result<void> state;
  const auto at_least = [&](Buffer& buffer, std::size_t bytes, std::size_t wanted,
                            std::string_view what) {
    if (!state || buffer.bytes() >= bytes) return;
    if (const auto grown = grow(queue, buffer, wanted, what); grown)
      moved |= *grown;
    else
      state = fail(grown.error());
  };
  const auto copy = [&]<class T>(Buffer& to, const std::vector<T>& from) {
    if (from.empty()) return;
    const std::size_t bytes = from.size() * sizeof(T);
    // More than is needed now: a buffer that moves makes recorded steps useless.
    const std::size_t wanted = std::max(2 * bytes, Backend::kChunk * sizeof(T));
    at_least(to, bytes, wanted, "a chunk of tokens");
    if (state) queue->copy_to_device(to.as<>(), from.data(), bytes);
  };
  copy(places_, places_on_host_);
  copy(output_rows_, output_rows_on_host_);
  for (Attention* attention : {&global_, &local_}) {
    copy(attention->tiles, attention->plan.tiles);
    copy(attention->merges, attention->plan.merges);
  }
  if (global_.plan.parts > 1) {
    const std::size_t bytes = global_.plan.grid().bytes_of_parts(share.config.head_dim_v);
    at_least(parts_, bytes, bytes, "attention");
  }
  if (!state) return fail(state.error());

  int most = 0;
  for (const PlannedPiece& piece : planned_)
    most = std::max(most, piece.first_position + piece.tokens);
  for (DeviceRope* rope : {&rope_, &rope_long_, &rope_local_}) {
    const auto extended = rope->extend(queue, most);
    if (!extended) return fail(extended.error());
    moved |= *extended;
  }
  return moved;
}

}  // namespace kquant::cuda
