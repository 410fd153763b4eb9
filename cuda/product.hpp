#pragma once
// What the kernels of Y = X W^T (few_columns.cuh, many_columns.cuh, warpgroup_columns.cuh) take,
// and how their results leave.

#include <cstddef>

#include "cuda/division.hpp"
#include "cuda/vocabulary.hpp"

namespace kquant::cuda {

struct Product {
  const std::byte* weights;  ///< units, layout.hpp
  const float* row_scale;    ///< of each row of W, to full units
  int rows = 0;              ///< N
  int units = 0;             ///< K / 256, rounded up
  const std::uint16_t* x;    ///< M rows of units * 256 halves, zeros beyond K (half_rows.hpp)
  const float* x_scale;      ///< of each row of X
  int columns = 0;           ///< M: the tokens are the columns of the tensor cores' product
  float* y;                  ///< M rows
  std::size_t y_stride = 0;
  const float* bias = nullptr;  ///< of each row of W; may be null
  bool add = false;             ///< to what y holds
  // Where blocks share a result, the last of them adds up.
  float* partial = nullptr;
  unsigned* tickets = nullptr;  ///< zeros before and after
  Division division = {};       ///< of warpgroup_columns
};

KQ_DEVICE void put_result(const Product& p, int row, int column, float sum) {
  if (row >= p.rows || column >= p.columns) return;
  float value = sum * p.row_scale[row] * p.x_scale[column];
  if (p.bias != nullptr) value += p.bias[row];
  float* y = p.y + static_cast<std::size_t>(column) * p.y_stride + row;
  *y = p.add ? *y + value : value;
}

}  // namespace kquant::cuda
