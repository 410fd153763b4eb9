#pragma once
// Which kernel a product gets: of many rows of X by the order in which X was written, of few as one
// asks.

#include "cuda/half_rows.hpp"
#include "kquant/cuda.hpp"

namespace kquant::cuda {

/// The order in which multiply() is fastest with so many rows of X on this device: tiles where it
/// has wgmma and the build was made for it, beyond what blocks of few columns are for.
RowOrder row_order_for(const DeviceInfo& device, int rows);

/// Which blocks have a product of up to kMostFewColumns (product.hpp) rows of X: those of
/// few_columns.cuh, of many_columns.cuh, or what blocks_for() says.
enum class Blocks { kBest, kFew, kMany };

/// kFew or kMany, for `rows` x `cols` of W and so many rows of X, which are the columns.
Blocks blocks_for(const DeviceInfo& device, TensorType type, std::size_t rows, std::size_t cols,
                  int columns);

/// cuda::matmul() with X in this order on the device, and by these blocks.
Result<void> matmul_in_order(RowOrder order, const DeviceMatrix& w, Span2d<const float> x,
                             Span2d<float> y, Blocks blocks = Blocks::kBest);

}  // namespace kquant::cuda
