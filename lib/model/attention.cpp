#include "model/attention.hpp"

#include <omp.h>

#include <algorithm>
#include <limits>

#include "kernels/table.hpp"

namespace kquant {
namespace {

using kernels::AttentionState;
using kernels::AttentionTile;
using kernels::kKeySpan;
using kernels::kQueryTile;

/// Below this many products (about 10 microseconds) waking threads costs more than it gains.
constexpr std::size_t kParallelProducts = 1u << 18;

std::size_t divided_up(std::size_t n, std::size_t unit) {
  return (n + unit - 1) / unit;
}

/// Query row r of a KV head: token r / group, head r % group of those that share it.
struct Rows {
  std::size_t group, first_position, window;
  std::size_t end_key(std::size_t row) const { return first_position + row / group + 1; }
  std::size_t first_key(std::size_t row) const {
    return window == 0 || end_key(row) <= window ? 0 : end_key(row) - window;
  }
};

Rows rows_of(const Attention::Shape& shape, const Attention::Queries& queries) {
  return {shape.n_heads / CacheAccess(*queries.cache).n_kv_heads(), queries.first_position,
          shape.window};
}

/// Floats of a state of so many rows: values, most, sum.
std::size_t state_floats(std::size_t rows, std::size_t dim_v) {
  return rows * (kernels::padded_to(dim_v, kernels::kKeyGroup) + 2);
}

AttentionState state_at(float* at, std::size_t rows, std::size_t dim_v) {
  const std::size_t n_values = rows * kernels::padded_to(dim_v, kernels::kKeyGroup);
  return {.values = at, .most = at + n_values, .sum = at + n_values + rows};
}

/// One that has seen nothing.
AttentionState new_state(float* at, std::size_t rows, std::size_t dim_v) {
  const AttentionState state = state_at(at, rows, dim_v);
  std::fill(state.values, state.most, 0.0f);
  std::fill_n(state.most, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(state.sum, rows, 0.0f);
  return state;
}

}  // namespace

/// Lists tiles such that each thread has some: smaller ones where there are few query rows; or,
/// where there are many keys to few rows, spans of keys for threads to share.
Attention::Plan Attention::plan(const Shape& shape, std::span<const Queries> sequences) {
  const CacheAccess model(*sequences.front().cache);
  dim_k_ = model.head_dim_k();
  dim_v_ = model.head_dim_v();
  const std::size_t n_kv = model.n_kv_heads();
  const auto threads = static_cast<std::size_t>(omp_get_max_threads());

  const auto list = [&](std::size_t rows_a_tile) {
    tiles_.clear();
    std::size_t spans = 0, products = 0;
    for (const Queries& queries : sequences) {
      const Rows rows = rows_of(shape, queries);
      const std::size_t n = queries.q.rows * rows.group;
      // The last tiles of a prompt see most keys: they start first.
      for (std::size_t i = divided_up(n, rows_a_tile); i-- > 0;) {
        const std::size_t begin = i * rows_a_tile, end = std::min(begin + rows_a_tile, n);
        const std::size_t first = rows.first_key(begin) / kKeySpan;
        const std::size_t last = divided_up(rows.end_key(end - 1), kKeySpan);
        for (std::size_t head = 0; head < n_kv; ++head) {
          tiles_.push_back({&queries, head, begin, end, first, last});
          spans += last - first;
          products += (end - begin) * (last - first) * kKeySpan * (dim_k_ + dim_v_);
        }
      }
    }
    return std::pair(spans, products);
  };
  const auto [spans, products] = list(kQueryTile);
  Plan plan{.parallel = threads > 1 && products >= kParallelProducts};
  const std::size_t wanted = 2 * threads;
  if (threads == 1 || tiles_.size() >= wanted) return plan;
  reserve_states();
  if (!plan.parallel) return plan;
  plan.spread_keys = spans >= 2 * wanted;
  if (!plan.spread_keys) {
    std::size_t rows = 0;
    for (const Tile& tile : tiles_) rows += tile.end - tile.begin;
    list(std::clamp(rows / wanted, std::size_t{1}, kQueryTile));
  }
  return plan;
}

/// Takes memory for the states of all spans that the caches have room for, so that none is needed
/// as they fill.
void Attention::reserve_states() {
  std::size_t spans = 0, floats = 0;
  for (const Tile& tile : tiles_) {
    const std::size_t most = divided_up(CacheAccess(*tile.queries->cache).capacity(), kKeySpan);
    spans += most;
    floats += most * state_floats(tile.end - tile.begin, dim_v_);
  }
  pieces_.reserve(spans);
  if (floats > states_size_) {
    states_ = std::make_unique_for_overwrite<float[]>(floats);
    states_size_ = floats;
  }
}

void Attention::run(const Shape& shape, std::span<const Queries> sequences) {
  const Plan plan = this->plan(shape, sequences);
  const std::size_t n_scratch = kernels::attention_scratch(dim_k_, dim_v_);
  const std::size_t n_thread = n_scratch + state_floats(kQueryTile, dim_v_);
  scratch_.resize(
      std::max(scratch_.size(), static_cast<std::size_t>(omp_get_max_threads()) * n_thread));
  const auto scratch = [&] {
    return scratch_.data() + static_cast<std::size_t>(omp_get_thread_num()) * n_thread;
  };

  if (!plan.spread_keys) {
    const auto whole = [&](const Tile& tile, float* memory) {
      const AttentionState state = new_state(memory + n_scratch, tile.end - tile.begin, dim_v_);
      attend(shape, tile, tile.first_span, tile.end_span, memory, state);
      finish(shape, tile, state);
    };
    if (!plan.parallel) {  // perhaps within a team of the caller's, whose numbers are not ours
      for (const Tile& tile : tiles_) whole(tile, scratch_.data());
      return;
    }
#pragma omp parallel for schedule(dynamic)
    for (const Tile& tile : tiles_) whole(tile, scratch());
    return;
  }

  // Spans one by one, then merged in their order: the same result.
  pieces_.clear();
  float* at = states_.get();
  for (const Tile& tile : tiles_)
    for (std::size_t span = tile.first_span; span < tile.end_span; ++span) {
      pieces_.push_back({&tile, span, at});
      at += state_floats(tile.end - tile.begin, dim_v_);
    }
#pragma omp parallel
  {
#pragma omp for schedule(dynamic)
    for (const Piece& piece : pieces_) {
      const std::size_t rows = piece.tile->end - piece.tile->begin;
      attend(shape, *piece.tile, piece.span, piece.span + 1, scratch(),
             new_state(piece.state, rows, dim_v_));
    }
#pragma omp for schedule(dynamic)
    for (const Tile& tile : tiles_) {
      const std::size_t rows = tile.end - tile.begin;
      const AttentionState state = new_state(scratch() + n_scratch, rows, dim_v_);
      for (const Piece& piece : pieces_)
        if (piece.tile == &tile)
          kernels::table().attention.merge(state_at(piece.state, rows, dim_v_), rows, dim_v_,
                                           state);
      finish(shape, tile, state);
    }
  }
}

void Attention::attend(const Shape& shape, const Tile& tile, std::size_t first_span,
                       std::size_t end_span, float* scratch, const AttentionState& state) const {
  const CacheAccess cache(*tile.queries->cache);
  const Rows rows = rows_of(shape, *tile.queries);
  AttentionTile kernel{.keys = cache.keys(shape.layer, tile.kv_head),
                       .values = cache.values(shape.layer, tile.kv_head),
                       .dim_k = dim_k_,
                       .dim_v = dim_v_,
                       .rows = tile.end - tile.begin,
                       .q = {},
                       .first = {},
                       .end = {},
                       .soft_cap = shape.soft_cap,
                       .scratch = scratch};
  for (std::size_t r = 0; r < kernel.rows; ++r) {
    const std::size_t row = tile.begin + r, head = tile.kv_head * rows.group + row % rows.group;
    kernel.q[r] = tile.queries->q.row(row / rows.group).data() + head * dim_k_;
    kernel.first[r] = rows.first_key(row);
    kernel.end[r] = rows.end_key(row);
  }
  const auto kind = static_cast<std::size_t>(cache.kind());
  kernels::table().attention.attend[kind](kernel, first_span, end_span, state);
}

void Attention::finish(const Shape& shape, const Tile& tile, const AttentionState& state) const {
  const std::size_t group = rows_of(shape, *tile.queries).group;
  for (std::size_t row = tile.begin; row < tile.end; ++row) {
    const std::size_t head = tile.kv_head * group + row % group;
    kernels::table().attention.finish(state, row - tile.begin, dim_v_,
                                      tile.queries->out.row(row / group).data() + head * dim_v_);
  }
}

}  // namespace kquant
