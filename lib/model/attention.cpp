#include "model/attention.hpp"

#include <omp.h>

#include <algorithm>
#include <span>

#include "matmul/float_ops.hpp"

namespace kquant {
namespace {

constexpr std::size_t kQueryTile = 16, kKeyBlock = 64;

/// Query row r of a KV head: token r / group, head r % group of those that share it.
struct Rows {
  std::size_t group, first_position, window;
  std::size_t end_key(std::size_t row) const { return first_position + row / group + 1; }
  std::size_t first_key(std::size_t row) const {
    return window == 0 || end_key(row) <= window ? 0 : end_key(row) - window;
  }
};

}  // namespace

float* Attention::reserve(std::size_t threads, std::size_t keys) {
  const std::size_t size = threads * kQueryTile * keys;
  if (size > scores_size_) {
    scores_ = std::make_unique_for_overwrite<float[]>(size);
    scores_size_ = size;
  }
  return scores_.get();
}

template <class T>
void Attention::run(const CacheAccess& cache, const Shape& shape, Span2d<const float> q,
                    std::size_t first_position, Span2d<float> out) {
  const std::size_t dim_k = cache.head_dim_k(), dim_v = cache.head_dim_v();
  const std::size_t n_kv = cache.n_kv_heads(), group = shape.n_heads / n_kv;
  const Rows rows{group, first_position, shape.window};
  const std::size_t n_rows = q.rows * group;

  // Small tiles where there are few rows, so that each thread has some.
  const auto threads = static_cast<std::size_t>(omp_get_max_threads());
  const std::size_t tile = std::clamp(n_rows * n_kv / (2 * threads), std::size_t{1}, kQueryTile);
  const std::size_t tiles = (n_rows + tile - 1) / tile;
  const std::size_t stride = cache.capacity();
  float* const all_scores = reserve(threads, stride);

#pragma omp parallel for schedule(dynamic) if (tiles * n_kv > 1)
  for (std::size_t task = 0; task < tiles * n_kv; ++task) {
    // The last tiles of a prompt see most keys: they start first.
    const std::size_t kv_head = task % n_kv;
    const std::size_t begin = (tiles - 1 - task / n_kv) * tile;
    const std::size_t end = std::min(begin + tile, n_rows);
    const T* const keys = cache.keys<T>(shape.layer, kv_head);
    const T* const values = cache.values<T>(shape.layer, kv_head);
    float* const scores =
        all_scores + static_cast<std::size_t>(omp_get_thread_num()) * kQueryTile * stride;

    // Scores of key j of a row are at scores[(row - begin) * stride + j].
    const auto scores_of = [&](std::size_t row, std::size_t first, std::size_t last) {
      return std::span<float>(scores + (row - begin) * stride + first, last - first);
    };
    const auto visit = [&](auto&& fn) {
      const std::size_t first_block = rows.first_key(begin) / kKeyBlock * kKeyBlock;
      for (std::size_t block = first_block; block < rows.end_key(end - 1); block += kKeyBlock)
        for (std::size_t row = begin; row < end; ++row) {
          const std::size_t first = std::max(block, rows.first_key(row));
          const std::size_t last = std::min(block + kKeyBlock, rows.end_key(row));
          if (first < last) fn(row, first, last);
        }
    };
    const auto head = [&](std::size_t row) { return kv_head * group + row % group; };

    visit([&](std::size_t row, std::size_t first, std::size_t last) {
      ops::row_dots(keys + first * dim_k, dim_k,
                    q.row(row / group).subspan(head(row) * dim_k, dim_k),
                    scores_of(row, first, last));
    });
    for (std::size_t row = begin; row < end; ++row) {
      const std::span<float> seen = scores_of(row, rows.first_key(row), rows.end_key(row));
      if (shape.soft_cap > 0) ops::soft_cap(seen, shape.soft_cap);
      ops::softmax(seen);
      std::ranges::fill(out.row(row / group).subspan(head(row) * dim_v, dim_v), 0.0f);
    }
    visit([&](std::size_t row, std::size_t first, std::size_t last) {
      ops::add_weighted_rows(values + first * dim_v, dim_v, scores_of(row, first, last),
                             out.row(row / group).subspan(head(row) * dim_v, dim_v));
    });
  }
}

template void Attention::run<Half>(const CacheAccess&, const Shape&, Span2d<const float>,
                                   std::size_t, Span2d<float>);
template void Attention::run<float>(const CacheAccess&, const Shape&, Span2d<const float>,
                                    std::size_t, Span2d<float>);

}  // namespace kquant
