#pragma once
// Which kernel a product of many rows of X gets is decided by the order in which X was written.

#include "cuda/half_rows.hpp"
#include "kquant/cuda.hpp"

namespace kquant::cuda {

/// The order in which multiply() is fastest with so many rows of X on this device: tiles where it
/// has wgmma and the build was made for it, beyond what blocks of few columns are for.
RowOrder row_order_for(const DeviceInfo& device, int rows);

/// cuda::matmul() with X in this order on the device.
Result<void> matmul_in_order(RowOrder order, const DeviceMatrix& w, Span2d<const float> x,
                             Span2d<float> y);

}  // namespace kquant::cuda
