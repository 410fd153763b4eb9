#pragma once
// What quantizing takes: the kernel's arguments, and what the host prepares for a format.

#include <cstddef>

#include "kquant/cuda.hpp"
#include "quantize/lanes.hpp"
#include "quantize/search_plan.hpp"

namespace kquant::cuda {

struct RowsToQuantize {
  const float* x = nullptr;           ///< rows of `stride`; zeros beyond their last block
  const float* importance = nullptr;  ///< `stride` of them, evened out
  int rows = 0;
  std::size_t stride = 0;    ///< a multiple of QuantizeShape::weights
  std::size_t blocks = 0;    ///< of a row
  std::byte* out = nullptr;  ///< rows of blocks, as in a file
  int* bad = nullptr;        ///< set where a weight is a NaN or an infinity
  detail::SearchPlan plan;
};

inline constexpr int kQuantizeThreads = 128;
inline constexpr int kQuantizeGroups = kQuantizeThreads / detail::kLanes;

/// How a format is quantized: a block of threads takes kQuantizeGroups times `weights` of them.
struct QuantizeShape {
  int weights = 0;
  std::size_t shared = 0;
  detail::SearchPlan (*plan)(Effort, bool weighted) = nullptr;
  void (*even_out)(const float* importance, float floor, float* even) = nullptr;
  void (*kernel)(RowsToQuantize) = nullptr;
};

/// quantize() with so many weights, or one row, on the device at a time.
Result<void> quantize_by_pieces(const Device& device, TensorType type, Span2d<const float> in,
                                std::span<std::byte> out, const QuantizeOptions& options,
                                std::size_t piece_weights);

}  // namespace kquant::cuda
