#pragma once
// Dense products with packed weights, on the CPU:   Y = X W^T.
//
//     W: N x K, row-major, packed in any plain or block type      X: M x K, float      Y: M x N,
//     float
//
// Weights in a block format meet activations quantized to int8 in groups as long as the format's
// block (256 or 32 columns, one binary32 scale each); products of codes are accumulated exactly in
// int32 and one float operation a block, in a fixed order: results are the same for any number of
// threads, any split into calls and every ISA. Plain weights meet float activations.
//
// There are two orders, which may differ in the last bits: that of packed weights, and that of
// weights multiplied as they lie in a file. The latter serves layout kRows with at most 8 rows of
// X; with more, weights are packed on the way, a few rows at a time.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/base/span2d.hpp"
#include "kquant/format/info.hpp"

namespace kquant {

/// How a matrix lies in memory.
enum class Layout : std::uint8_t {
  kRows,   ///< row after row, as in a file
  kPacked  ///< 16 rows interleaved; only PackedMatrix makes it
};

/// A weight matrix somebody else owns (such as a mapped file): `rows` rows (outputs, N) of `cols`
/// weights (inputs, K), where layout is kRows each row_bytes(type, cols) long.
struct MatrixView {
  TensorType type = TensorType::F32;
  std::size_t rows = 0;
  std::size_t cols = 0;
  const std::byte* data = nullptr;
  Layout layout = Layout::kRows;

  const std::byte* row(std::size_t r) const { return data + r * row_bytes(type, cols); }
  std::size_t bytes() const { return rows * row_bytes(type, cols); }
};

/// A copy of a matrix in a block format in the order in which the fastest kernels read it: as large
/// as the original but for the completion of the last 16 rows, and worth its making where a matrix
/// is used more than once or twice (kernels/packed/layout.hpp has a picture).
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// Preconditions: can_pack(w.type), w.layout is kRows. Parallel over rows. Errors: kOutOfMemory.
  static Result<PackedMatrix> pack(const MatrixView& w);

  /// Valid as long as this object, which may be moved.
  MatrixView view() const { return {type_, rows_, cols_, data_.get(), Layout::kPacked}; }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  TensorType type_ = TensorType::F32;
  std::size_t rows_ = 0, cols_ = 0, bytes_ = 0;
  std::unique_ptr<std::byte[], Free> data_;
};

/// True for the block formats.
bool can_pack(TensorType type);

/// Scratch memory that matmul needs for quantized activations. Grows to the largest call, then no
/// call allocates. One per thread of callers.
class MatmulWorkspace {
 public:
  std::span<std::byte> reserve(std::size_t bytes);

 private:
  std::vector<std::byte> storage_;
};

/// True where matmul and dequantize_rows take this type.
bool can_compute(TensorType type);

/// Y = X W^T. Preconditions: can_compute(w.type), x.cols == w.cols (a multiple of the block size),
/// y is x.rows x w.rows. Parallel over rows of W with the current number of OpenMP threads.
void matmul(const MatrixView& w, Span2d<const float> x, Span2d<float> y,
            MatmulWorkspace& workspace);

/// One X times several matrices with the same K (Q, K and V; gate and up): X is quantized only once
/// per activation group length. ws.size() == ys.size().
void matmul(std::span<const MatrixView> ws, Span2d<const float> x,
            std::span<const Span2d<float>> ys, MatmulWorkspace& workspace);

/// Rows `first`, `first` + 1, … of `w` as floats (out.cols == w.cols), bit-identical on every ISA.
/// Precondition: w.layout is kRows.
void dequantize_rows(const MatrixView& w, std::size_t first, Span2d<float> out);

}  // namespace kquant
