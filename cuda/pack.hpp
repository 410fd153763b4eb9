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

/// `out` (packed_bytes) gets the units, row_scale (unit_rows_of(rows) * 16) what each row's results
/// are to be multiplied by. Precondition: w.layout is kRows. Parallel over rows.
void pack(const MatrixView& w, std::span<std::byte> out, std::span<float> row_scale);

}  // namespace kquant::cuda
