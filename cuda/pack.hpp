#pragma once
// Puts a matrix into the order of layout.hpp, on the CPU.

#include <cstddef>
#include <span>

#include "kquant/matmul.hpp"

namespace kquant::cuda {

/// Units of 256 columns that a row of this length needs.
constexpr std::size_t units_of(std::size_t cols) {
  return (cols + 255) / 256;
}
/// Rows rounded up to units.
constexpr std::size_t unit_rows_of(std::size_t rows) {
  return (rows + 15) / 16;
}

/// Bytes of one unit. Precondition: can_compute(type).
std::size_t unit_bytes(TensorType type);
/// Bytes of a packed matrix.
std::size_t packed_bytes(TensorType type, std::size_t rows, std::size_t cols);

/// Some rows and columns of a matrix that lies row after row, as in a file; or all of it.
struct MatrixSlice {
  TensorType type = TensorType::F32;
  std::size_t rows = 0, cols = 0;
  const std::byte* data = nullptr;
  std::size_t row_stride = 0;  ///< bytes

  /// Precondition: w.layout is kRows.
  MatrixSlice(const MatrixView& w)  // NOLINT: a matrix is a slice of itself
      : type(w.type),
        rows(w.rows),
        cols(w.cols),
        data(w.data),
        row_stride(row_bytes(w.type, w.cols)) {}
  const std::byte* row(std::size_t r) const { return data + r * row_stride; }
  MatrixSlice rows_from(std::size_t first, std::size_t n) const;
  /// Precondition: `first` and `n` are whole blocks.
  MatrixSlice cols_from(std::size_t first, std::size_t n) const;
};

/// `out` (packed_bytes) gets the units, row_scale (unit_rows_of(rows) * 16) what each row's results
/// are to be multiplied by. Parallel over rows.
void pack(const MatrixSlice& w, std::span<std::byte> out, std::span<float> row_scale);

}  // namespace kquant::cuda
