#pragma once
// What the inputs of a matrix were like over a text, as far as quantizing it needs to know.

#include <cstddef>
#include <vector>

#include "kquant/base/span2d.hpp"
#include "kquant/matmul.hpp"

namespace kquant {

/// Row-major floats of its own.
struct FloatMatrix {
  std::size_t rows = 0, cols = 0;
  std::vector<float> values;

  void resize(std::size_t r, std::size_t c) {
    rows = r;
    cols = c;
    values.resize(r * c);
  }
  Span2d<float> view() { return {values.data(), rows, cols}; }
  /// Becomes x^T.
  void transpose_of(Span2d<const float> x) {
    resize(x.cols, x.rows);
#pragma omp parallel for
    for (std::size_t col = 0; col < x.cols; ++col)
      for (std::size_t row = 0; row < x.rows; ++row)
        values[col * x.rows + row] = x.data[row * x.stride + col];
  }
};

/// Sums over tokens of y y^T and of x y^T, where x is what a matrix of the model meets and y what
/// it meets in the quantized model instead.
class InputMoments {
 public:
  /// K x tokens each.
  void add(FloatMatrix& x, FloatMatrix& y) {
    add(y, y, own_);
    add(x, y, cross_);
  }
  Span2d<const float> own() { return own_.view(); }
  Span2d<const float> cross() { return cross_.view(); }

 private:
  /// sum += a b^T; matmul() gives the same on every ISA, for any number of threads.
  void add(FloatMatrix& a, FloatMatrix& b, FloatMatrix& sum) {
    if (sum.rows == 0) sum.resize(a.rows, b.rows);
    product_.resize(a.rows, b.rows);
    matmul({TensorType::F32, b.rows, b.cols, reinterpret_cast<const std::byte*>(b.values.data())},
           a.view(), product_.view(), workspace_);
#pragma omp parallel for
    for (std::size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += product_.values[i];
  }

  FloatMatrix own_, cross_, product_;
  MatmulWorkspace workspace_;
};

}  // namespace kquant
