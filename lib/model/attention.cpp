#include "model/attention.hpp"

#include <omp.h>

#include <algorithm>

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

void Attention::plan(const Shape& shape, std::span<const Queries> sequences) {
  // Small tiles where there are few rows, so that each thread has some.
  const auto threads = static_cast<std::size_t>(omp_get_max_threads());
  std::size_t all_rows = 0;
  for (const Queries& queries : sequences) all_rows += queries.q.rows * shape.n_heads;
  const std::size_t tile = std::clamp(all_rows / (2 * threads), std::size_t{1}, kQueryTile);

  tasks_.clear();
  for (const Queries& queries : sequences) {
    const std::size_t n_kv = CacheAccess(*queries.cache).n_kv_heads();
    const std::size_t n_rows = queries.q.rows * (shape.n_heads / n_kv);
    // The last tiles of a prompt see most keys: they start first.
    for (std::size_t tiles = (n_rows + tile - 1) / tile; tiles-- > 0;)
      for (std::size_t kv_head = 0; kv_head < n_kv; ++kv_head)
        tasks_.push_back({&queries, kv_head, tiles * tile, std::min((tiles + 1) * tile, n_rows)});
  }
}

void Attention::run(const Shape& shape, std::span<const Queries> sequences) {
  plan(shape, sequences);
  std::size_t stride = 0;
  for (const Queries& queries : sequences)
    stride = std::max(stride, CacheAccess(*queries.cache).capacity());
  const auto threads = static_cast<std::size_t>(omp_get_max_threads());
  scores_.resize(std::max(scores_.size(), threads * kQueryTile * stride));

#pragma omp parallel for schedule(dynamic) if (tasks_.size() > 1)
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    float* const scores =
        scores_.data() + static_cast<std::size_t>(omp_get_thread_num()) * kQueryTile * stride;
    if (tasks_[i].queries->cache->type() == KvType::kF16)
      run<Half>(shape, tasks_[i], scores, stride);
    else
      run<float>(shape, tasks_[i], scores, stride);
  }
}

template <class T>
void Attention::run(const Shape& shape, const Task& task, float* scores, std::size_t stride) {
  const CacheAccess cache(*task.queries->cache);
  const std::size_t dim_k = cache.head_dim_k(), dim_v = cache.head_dim_v();
  const std::size_t group = shape.n_heads / cache.n_kv_heads();
  const Rows rows{group, task.queries->first_position, shape.window};
  const T* const keys = cache.keys<T>(shape.layer, task.kv_head);
  const T* const values = cache.values<T>(shape.layer, task.kv_head);
  const std::size_t begin = task.begin, end = task.end;

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
  const auto head = [&](std::size_t row) { return task.kv_head * group + row % group; };
  const auto out_of = [&](std::size_t row) {
    return task.queries->out.row(row / group).subspan(head(row) * dim_v, dim_v);
  };

  visit([&](std::size_t row, std::size_t first, std::size_t last) {
    ops::row_dots(keys + first * dim_k, dim_k,
                  task.queries->q.row(row / group).subspan(head(row) * dim_k, dim_k),
                  scores_of(row, first, last));
  });
  for (std::size_t row = begin; row < end; ++row) {
    const std::span<float> seen = scores_of(row, rows.first_key(row), rows.end_key(row));
    if (shape.soft_cap > 0) ops::soft_cap(seen, shape.soft_cap);
    ops::softmax(seen);
    std::ranges::fill(out_of(row), 0.0f);
  }
  visit([&](std::size_t row, std::size_t first, std::size_t last) {
    ops::add_weighted_rows(values + first * dim_v, dim_v, scores_of(row, first, last), out_of(row));
  });
}

}  // namespace kquant
