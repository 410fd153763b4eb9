#pragma once
// What the inputs of a matrix were like over a text, as far as quantizing it needs to know.

#include <algorithm>
#include <cmath>
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

/// Sums over tokens of y y^T and of (x - y) y^T, where x is what a matrix of the model meets and y
/// what it meets in the quantized model instead. In some layers a few tokens, the first of a text
/// before all, are a thousand times as long as others, and what follows is a norm, or a sum that
/// they are as large in: no token counts as longer than three times the median.
class InputMoments {
 public:
  /// K x tokens each; changed.
  void add(FloatMatrix& x, FloatMatrix& y) {
    shorten(x, y);
    // Of a symmetric sum the lower half is enough.
    constexpr std::size_t kRows = 256;
    for (std::size_t first = 0; first < y.rows; first += kRows) {
      const std::size_t last = std::min(first + kRows, y.rows);
      add(y, first, last, y, last, own_);
    }
    for (std::size_t i = 0; i < x.values.size(); ++i) x.values[i] -= y.values[i];
    add(x, 0, x.rows, y, y.rows, change_);
    tokens_ += y.cols;
  }
  std::size_t tokens() const { return tokens_; }
  Span2d<const float> own() {
    for (std::size_t i = 0; i < own_.rows; ++i)
      for (std::size_t k = i + 1; k < own_.cols; ++k)
        own_.values[i * own_.cols + k] = own_.values[k * own_.cols + i];
    return own_.view();
  }
  Span2d<const float> change() { return change_.view(); }

 private:
  static void shorten(FloatMatrix& x, FloatMatrix& y) {
    std::vector<float> lengths(y.cols);
#pragma omp parallel for
    for (std::size_t t = 0; t < y.cols; ++t) {
      double square = 0;
      for (std::size_t k = 0; k < y.rows; ++k)
        square += double{y.values[k * y.cols + t]} * double{y.values[k * y.cols + t]};
      lengths[t] = static_cast<float>(std::sqrt(square));
    }
    std::vector<float> sorted = lengths;
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    const float most = 3 * *middle;
    for (std::size_t t = 0; t < y.cols; ++t) {
      if (!(lengths[t] > most)) continue;
      for (std::size_t k = 0; k < y.rows; ++k) {
        x.values[k * y.cols + t] *= most / lengths[t];
        y.values[k * y.cols + t] *= most / lengths[t];
      }
    }
  }

  /// Rows [first, last) of sum += a b^T, of which the leading `cols` columns.
  void add(FloatMatrix& a, std::size_t first, std::size_t last, FloatMatrix& b, std::size_t cols,
           FloatMatrix& sum) {
    if (sum.rows == 0) sum.resize(a.rows, b.rows);
    product_.resize(last - first, cols);
    // matmul() gives the same on every ISA, for any number of threads.
    matmul({TensorType::F32, cols, b.cols, reinterpret_cast<const std::byte*>(b.values.data())},
           a.view().middle_rows(first, last - first), product_.view(), workspace_);
#pragma omp parallel for
    for (std::size_t i = 0; i < last - first; ++i)
      for (std::size_t k = 0; k < cols; ++k)
        sum.values[(first + i) * sum.cols + k] += product_.values[i * cols + k];
  }

  FloatMatrix own_, change_, product_;
  MatmulWorkspace workspace_;
  std::size_t tokens_ = 0;
};

}  // namespace kquant
