#include "kquant/matmul.hpp"

#include <omp.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#include "kernels/table.hpp"
#include "matmul/partition.hpp"

namespace kquant {
namespace {

using kernels::ActivationKind;
using kernels::Activations;
using kernels::FormatKernels;
using kernels::KernelTable;
using kernels::Panel;
using kernels::TiledActivations;

/// Below this many products (about 20 microseconds) waking threads costs more than it gains.
constexpr std::size_t kParallelProducts = 1u << 20;
constexpr std::size_t kAlign = 64;

constexpr std::size_t round_up(std::size_t n, std::size_t unit) {
  return (n + unit - 1) / unit * unit;
}

/// Hands out aligned pieces of one buffer; with no buffer it only counts.
class Pieces {
 public:
  explicit Pieces(std::byte* at = nullptr) : base_(at) {}
  template <class T>
  T* take(std::size_t count) {
    std::byte* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += round_up(count * sizeof(T), kAlign);
    return reinterpret_cast<T*>(piece);
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

/// A tile should stay in L2 with room for weights.
constexpr std::size_t kTileBytes = 512 * 1024;

/// Rows of X in a tile: all tiles are about as large, so that the last one is not a small one.
std::size_t tile_rows(std::size_t rows, std::size_t cols) {
  const std::size_t most = std::clamp<std::size_t>(kTileBytes / cols, 8, kernels::kTileRows);
  const std::size_t n_tiles = (rows + most - 1) / most;
  return (rows + n_tiles - 1) / n_tiles;
}

struct Plan {
  std::array<Activations, kernels::kActivationKinds> activations{};
  std::array<TiledActivations, kernels::kActivationKinds> tiled{};  ///< for packed weights
  std::byte* scratch = nullptr;
  std::size_t scratch_bytes = 0;  ///< a thread
};

/// Divides `pieces` among what these products need. Called once to count, once to assign.
Plan make_plan(const KernelTable& table, std::span<const MatrixView> ws, Span2d<const float> x,
               int n_threads, Pieces& pieces) {
  Plan plan;
  std::array<bool, kernels::kActivationKinds> wanted{}, wanted_tiled{};
  const std::size_t tile = tile_rows(x.rows, x.cols);
  for (const MatrixView& w : ws) {
    const FormatKernels& format = *kernels::find(table, w.type);
    const auto kind = static_cast<std::size_t>(format.activations);
    const bool packed = w.layout == Layout::kPacked;
    (packed ? wanted_tiled : wanted)[kind] = true;
    plan.scratch_bytes =
        std::max(plan.scratch_bytes,
                 packed ? format.packed_scratch_bytes(x.cols, tile) : format.scratch_bytes(x.cols));
  }
  for (std::size_t kind = 0; kind < wanted_tiled.size(); ++kind) {
    if (!wanted_tiled[kind]) continue;
    const bool per32 = kind == static_cast<std::size_t>(ActivationKind::kInt8Per32);
    const std::size_t groups = x.rows * x.cols / (per32 ? 32 : 256);
    plan.tiled[kind] = {
        .rows = x.rows,
        .cols = x.cols,
        .tile = tile,
        .codes = pieces.take<std::int8_t>(x.rows * x.cols),
        .scales = pieces.take<float>(groups),
        .sums = pieces.take<std::int16_t>(groups * (per32 ? 1 : kernels::kSumsPerSuper))};
  }
  for (std::size_t kind = 0; kind < wanted.size(); ++kind) {
    if (!wanted[kind]) continue;
    Activations& a = plan.activations[kind];
    a.rows = x.rows;
    a.x = x.data;
    a.x_stride = x.stride;
    if (kind == static_cast<std::size_t>(ActivationKind::kFloat)) continue;
    const bool per32 = kind == static_cast<std::size_t>(ActivationKind::kInt8Per32);
    a.padded = round_up(x.cols, 256);
    const std::size_t groups = a.rows * a.padded / (per32 ? 32 : 256);
    a.codes = pieces.take<std::uint8_t>(a.rows * a.padded);
    a.scales = pieces.take<float>(groups);
    if (per32)
      a.scaled_sums = pieces.take<float>(groups);
    else
      a.sums16 = pieces.take<std::int16_t>(a.rows * a.padded / 16);
  }
  plan.scratch_bytes = round_up(plan.scratch_bytes, kAlign);
  plan.scratch = pieces.take<std::byte>(plan.scratch_bytes * static_cast<std::size_t>(n_threads));
  return plan;
}

}  // namespace

std::span<std::byte> MatmulWorkspace::reserve(std::size_t bytes) {
  if (storage_.size() < bytes + kAlign) storage_.resize(bytes + kAlign);
  const std::size_t address = reinterpret_cast<std::uintptr_t>(storage_.data());
  return {storage_.data() + (round_up(address, kAlign) - address), bytes};
}

bool can_compute(TensorType type) {
  return kernels::find(kernels::table(), type) != nullptr;
}

void matmul(const MatrixView& w, Span2d<const float> x, Span2d<float> y,
            MatmulWorkspace& workspace) {
  matmul(std::span(&w, 1), x, std::span(&y, 1), workspace);
}

void matmul(std::span<const MatrixView> ws, Span2d<const float> x,
            std::span<const Span2d<float>> ys, MatmulWorkspace& workspace) {
  assert(ws.size() == ys.size());
  if (x.rows == 0 || x.cols == 0) {
    for (const Span2d<float>& y : ys)
      for (std::size_t m = 0; m < x.rows; ++m) std::ranges::fill(y.row(m), 0.0f);
    return;
  }
  const KernelTable& table = kernels::table();
  std::size_t n_rows = 0;
  for (const MatrixView& w : ws) n_rows += w.rows;
  const bool parallel = n_rows * x.cols * x.rows >= kParallelProducts;
  const int n_threads = parallel ? omp_get_max_threads() : 1;

  Pieces count;
  make_plan(table, ws, x, n_threads, count);
  Pieces pieces(workspace.reserve(count.used()).data());
  const Plan plan = make_plan(table, ws, x, n_threads, pieces);

#pragma omp parallel num_threads(n_threads) if (parallel)
  {
    const auto thread = static_cast<std::size_t>(omp_get_thread_num());
    const auto threads = static_cast<std::size_t>(omp_get_num_threads());
    for (std::size_t kind = 0; kind < plan.activations.size(); ++kind)
      if (const Activations& a = plan.activations[kind]; a.codes != nullptr) {
        const auto [first, last] = part(a.rows, thread, threads, 1);
        table.quantize[kind](x.data, x.stride, x.cols, first, last - first, a);
      }
    for (std::size_t kind = 0; kind < plan.tiled.size(); ++kind)
      if (const TiledActivations& a = plan.tiled[kind]; a.codes != nullptr) {
        const auto [first, last] = part(a.rows, thread, threads, 1);
        table.tile[kind](x.data, x.stride, first, last - first, a);
      }
#pragma omp barrier
    for (std::size_t i = 0; i < ws.size(); ++i) {
      const FormatKernels& format = *kernels::find(table, ws[i].type);
      const auto [first, last] = part(ws[i].rows, thread, threads, kernels::kPanelRows);
      std::byte* const scratch = plan.scratch + thread * plan.scratch_bytes;
      const auto kind = static_cast<std::size_t>(format.activations);
      if (ws[i].layout == Layout::kPacked) {
        format.multiply_packed(
            {.panels = ws[i].data + first / kernels::kPanelRows * format.panel_bytes(ws[i].cols),
             .rows = last - first,
             .cols = ws[i].cols,
             .activations = &plan.tiled[kind],
             .y = ys[i].data + first,
             .y_stride = ys[i].stride,
             .scratch = scratch});
        continue;
      }
      const Panel panel{.weights = ws[i].row(first),
                        .row_bytes = row_bytes(ws[i].type, ws[i].cols),
                        .count = last - first,
                        .cols = ws[i].cols,
                        .activations = &plan.activations[kind],
                        .y = ys[i].data + first,
                        .y_stride = ys[i].stride,
                        .scratch = scratch};
      format.multiply(panel);
    }
  }
}

void dequantize_rows(const MatrixView& w, std::size_t first, Span2d<float> out) {
  const FormatKernels& format = *kernels::find(kernels::table(), w.type);
  for (std::size_t r = 0; r < out.rows; ++r)
    format.dequantize_row(w.row(first + r), w.cols, out.data + r * out.stride);
}

}  // namespace kquant
