#pragma once
// What the kernels of Y = X W^T (few_columns.cuh, many_columns.cuh, warpgroup_columns.cuh) take,
// and how their results leave.

#include <cstddef>

#include "cuda/division.hpp"
#include "cuda/vocabulary.hpp"

namespace kquant::cuda {

/// That few_columns.cuh can have.
inline constexpr int kMostFewColumns = 8;

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

/// How the results of a lane leave that holds rows first, first + 8, first + kStep, first + kStep +
/// 8, … of several columns: what is asked of a row is asked once.
template <int kTileRows, int kStep>
class ResultRows {
 public:
  KQ_DEVICE ResultRows(const Product& p, int first) : first_(first) {
#pragma unroll
    for (int i = 0; i < kTileRows; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = first + kStep * i + 8 * h;
        there_[i][h] = row < p.rows;
        scale_[i][h] = there_[i][h] ? p.row_scale[row] : 0.0f;
        bias_[i][h] = there_[i][h] && p.bias != nullptr ? p.bias[row] : 0.0f;
      }
  }
  /// sum(i, h): of row first + kStep * i + 8 * h.
  template <class Fn>
  KQ_DEVICE void put(const Product& p, int column, const Fn& sum) const {
    if (column >= p.columns) return;
    const float x_scale = p.x_scale[column];
    float* const y = p.y + static_cast<std::size_t>(column) * p.y_stride + first_;
#pragma unroll
    for (int i = 0; i < kTileRows; ++i)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (!there_[i][h]) continue;
        const float value = sum(i, h) * scale_[i][h] * x_scale + bias_[i][h];
        float* const to = y + kStep * i + 8 * h;
        if (p.add)
          add_to(to, value);
        else
          *to = value;
      }
  }

 private:
  int first_;
  bool there_[kTileRows][2];
  float scale_[kTileRows][2], bias_[kTileRows][2];
};

/// One result.
KQ_DEVICE void put_result(const Product& p, int row, int column, float sum) {
  if (row >= p.rows || column >= p.columns) return;
  float value = sum * p.row_scale[row] * p.x_scale[column];
  if (p.bias != nullptr) value += p.bias[row];
  float* y = p.y + static_cast<std::size_t>(column) * p.y_stride + row;
  *y = p.add ? *y + value : value;
}

}  // namespace kquant::cuda
