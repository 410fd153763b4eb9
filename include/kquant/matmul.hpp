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

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/base/span2d.hpp"
#include "kquant/format/info.hpp"

namespace kquant {

/// A packed weight matrix somebody else owns (such as a mapped file): `rows` rows (outputs, N) of
/// `cols` weights (inputs, K), each row_bytes(type, cols) long.
struct MatrixView {
  TensorType type = TensorType::F32;
  std::size_t rows = 0;
  std::size_t cols = 0;
  const std::byte* data = nullptr;

  const std::byte* row(std::size_t r) const { return data + r * row_bytes(type, cols); }
  std::size_t bytes() const { return rows * row_bytes(type, cols); }
};

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
void dequantize_rows(const MatrixView& w, std::size_t first, Span2d<float> out);

}  // namespace kquant
