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

/// Who multiplies a matrix.
enum class Path : std::uint8_t {
  kRows,      ///< as it lies: plain weights, or a few rows of X
  kPacked,    ///<
  kPackFirst  ///< packed into scratch memory, a few panels at a time
};

Path path_of(const MatrixView& w, const FormatKernels& format, std::size_t rows) {
  if (w.layout == Layout::kPacked) return Path::kPacked;
  const bool as_it_lies = rows <= kernels::kFewRows || format.pack_panel == nullptr;
  return as_it_lies ? Path::kRows : Path::kPackFirst;
}

/// Panels that are packed to be multiplied at once should stay in L2, beside a tile.
std::size_t panels_at_once(std::size_t panel_bytes) {
  constexpr std::size_t kBytes = 256 * 1024;
  return std::max<std::size_t>(1, kBytes / panel_bytes);
}

struct Plan {
  std::array<Activations, kernels::kActivationKinds> activations{};
  std::array<TiledActivations, kernels::kActivationKinds> tiled{};  ///< for packed weights
  std::byte* scratch = nullptr;
  std::size_t scratch_bytes = 0;  ///< a thread
  std::byte* panels = nullptr;
  std::size_t panels_bytes = 0;  ///< a thread
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
    const Path path = path_of(w, format, x.rows);
    (path == Path::kRows ? wanted : wanted_tiled)[kind] = true;
    if (path == Path::kRows) continue;
    plan.scratch_bytes = std::max(plan.scratch_bytes, format.packed_scratch_bytes(x.cols, tile));
    if (path == Path::kPackFirst) {
      const std::size_t panel = format.panel_bytes(x.cols);
      plan.panels_bytes = std::max(plan.panels_bytes, panels_at_once(panel) * panel);
    }
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
  const auto threads = static_cast<std::size_t>(n_threads);
  plan.scratch_bytes = round_up(plan.scratch_bytes, kAlign);
  plan.scratch = pieces.take<std::byte>(plan.scratch_bytes * threads);
  plan.panels_bytes = round_up(plan.panels_bytes, kAlign);
  plan.panels = pieces.take<std::byte>(plan.panels_bytes * threads);
  return plan;
}

/// Y = X W^T of rows [first, last) of W, by one thread.
void multiply_rows(const MatrixView& w, std::size_t first, std::size_t last,
                   const FormatKernels& format, const Plan& plan, std::size_t thread,
                   Span2d<float> y) {
  constexpr std::size_t kRows = kernels::kPanelRows;
  const auto kind = static_cast<std::size_t>(format.activations);
  const std::size_t w_row_bytes = row_bytes(w.type, w.cols);
  const Path path = path_of(w, format, y.rows);
  if (path == Path::kRows)
    return format.multiply({.weights = w.row(first),
                            .row_bytes = w_row_bytes,
                            .count = last - first,
                            .cols = w.cols,
                            .activations = &plan.activations[kind],
                            .y = y.data + first,
                            .y_stride = y.stride});
  const std::size_t panel_bytes = format.panel_bytes(w.cols);
  const auto multiply_panels = [&](const std::byte* panels, std::size_t row, std::size_t count) {
    format.multiply_packed({.panels = panels,
                            .rows = count,
                            .cols = w.cols,
                            .activations = &plan.tiled[kind],
                            .y = y.data + row,
                            .y_stride = y.stride,
                            .scratch = plan.scratch + thread * plan.scratch_bytes});
  };
  if (path == Path::kPacked)
    return multiply_panels(w.data + first / kRows * panel_bytes, first, last - first);
  std::byte* const panels = plan.panels + thread * plan.panels_bytes;
  const std::size_t at_once = panels_at_once(panel_bytes) * kRows;
  for (std::size_t from = first; from < last; from += at_once) {
    const std::size_t to = std::min(from + at_once, last);
    for (std::size_t row = from; row < to; row += kRows)
      format.pack_panel(w.row(row), w_row_bytes, std::min(kRows, to - row), w.cols,
                        panels + (row - from) / kRows * panel_bytes);
    multiply_panels(panels, from, to - from);
  }
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

  const auto quantize = [&](std::size_t thread, std::size_t threads) {
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
  };
  const auto multiply = [&](std::size_t thread, std::size_t threads) {
    for (std::size_t i = 0; i < ws.size(); ++i) {
      const auto [first, last] = part(ws[i].rows, thread, threads, kernels::kPanelRows);
      multiply_rows(ws[i], first, last, *kernels::find(table, ws[i].type), plan, thread, ys[i]);
    }
  };
  if (n_threads == 1) {  // gcc's OpenMP asks the system to wake others even where there are none
    quantize(0, 1);
    multiply(0, 1);
    return;
  }
#pragma omp parallel num_threads(n_threads)
  {
    const auto thread = static_cast<std::size_t>(omp_get_thread_num());
    const auto threads = static_cast<std::size_t>(omp_get_num_threads());
    quantize(thread, threads);
#pragma omp barrier
    multiply(thread, threads);
  }
}

void dequantize_rows(const MatrixView& w, std::size_t first, Span2d<float> out) {
  const FormatKernels& format = *kernels::find(kernels::table(), w.type);
  for (std::size_t r = 0; r < out.rows; ++r)
    format.dequantize_row(w.row(first + r), w.cols, out.data + r * out.stride);
}

}  // namespace kquant
