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

/// Sum over tokens of x x^T, where x is what a matrix meets. In some layers a few tokens, the first
/// of a text before all, are a thousand times as long as others, and what follows is a norm, or a
/// sum that they are as large in: no token counts as longer than three times the median.
class InputMoments {
 public:
  /// tokens x K
  void add(Span2d<const float> tokens) {
    x_.transpose_of(tokens);
    shorten();
    if (sum_.rows == 0) sum_.resize(x_.rows, x_.rows);
    // Of a symmetric sum the lower half is enough.
    constexpr std::size_t kRows = 256;
    for (std::size_t first = 0; first < x_.rows; first += kRows)
      add_rows(first, std::min(first + kRows, x_.rows));
    tokens_ += tokens.rows;
  }
  /// Of how many tokens.
  std::size_t tokens() const { return tokens_; }
  Span2d<const float> sum() {
    for (std::size_t i = 0; i < sum_.rows; ++i)
      for (std::size_t k = i + 1; k < sum_.cols; ++k)
        sum_.values[i * sum_.cols + k] = sum_.values[k * sum_.cols + i];
    return sum_.view();
  }

 private:
  void shorten() {
    std::vector<float> lengths(x_.cols);
#pragma omp parallel for
    for (std::size_t t = 0; t < x_.cols; ++t) {
      double square = 0;
      for (std::size_t k = 0; k < x_.rows; ++k)
        square += double{x_.values[k * x_.cols + t]} * double{x_.values[k * x_.cols + t]};
      lengths[t] = static_cast<float>(std::sqrt(square));
    }
    std::vector<float> sorted = lengths;
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    const float most = 3 * *middle;
    for (std::size_t t = 0; t < x_.cols; ++t) {
      if (!(lengths[t] > most)) continue;
      for (std::size_t k = 0; k < x_.rows; ++k) x_.values[k * x_.cols + t] *= most / lengths[t];
    }
  }

  /// Rows [first, last) of sum += x x^T, left of the diagonal and a little more.
  void add_rows(std::size_t first, std::size_t last) {
    product_.resize(last - first, last);
    // matmul() gives the same on every ISA, for any number of threads.
    matmul({TensorType::F32, last, x_.cols, reinterpret_cast<const std::byte*>(x_.values.data())},
           x_.view().middle_rows(first, last - first), product_.view(), workspace_);
#pragma omp parallel for
    for (std::size_t i = 0; i < last - first; ++i)
      for (std::size_t k = 0; k < last; ++k)
        sum_.values[(first + i) * sum_.cols + k] += product_.values[i * last + k];
  }

  FloatMatrix x_, sum_, product_;
  MatmulWorkspace workspace_;
  std::size_t tokens_ = 0;
};

}  // namespace kquant
