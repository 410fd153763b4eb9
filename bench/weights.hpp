#pragma once
// Matrices to multiply: bell-shaped weights, quantized as a model's are, several copies of each so
// that no cache holds them.

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <list>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kquant/format/all.hpp"
#include "kquant/matmul.hpp"
#include "kquant/quantize.hpp"

namespace kquant::bench {

struct Shape {
  std::size_t rows, cols;  ///< N, K
  std::string text() const { return std::to_string(rows) + "x" + std::to_string(cols); }
};

/// Decoding never finds in a cache what it reads: each token reads all weights.
constexpr std::size_t kRotatedBytes = std::size_t{256} << 20;
constexpr std::size_t copies_of(std::size_t bytes) {
  return kRotatedBytes / bytes + 2;
}

inline std::vector<float> bell_shaped(std::size_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

/// Quantizing takes time: so many rows differ, then they repeat.
constexpr std::size_t kDifferentRows = 64;

inline std::vector<std::byte> make_weights(TensorType type, Shape shape) {
  const std::size_t n = std::min(kDifferentRows, shape.rows);
  const auto x = bell_shaped(n * shape.cols, 1);
  std::vector<std::byte> bytes(shape.rows * row_bytes(type, shape.cols));
  const std::size_t part = n * row_bytes(type, shape.cols);
  if (!quantize(type, Span2d<const float>(x.data(), n, shape.cols), {bytes.data(), part}))
    std::abort();  // a shape that is no multiple of blocks was refused before
  for (std::size_t at = part; at < bytes.size(); at += part)
    std::memcpy(bytes.data() + at, bytes.data(), std::min(part, bytes.size() - at));
  return bytes;
}

/// The same weights several times, in one layout.
struct Rotated {
  std::vector<std::byte> rows;
  std::vector<PackedMatrix> packed;
  std::vector<MatrixView> views;

  static Rotated make(const MatrixView& one, Layout layout) {
    const std::size_t n = copies_of(one.bytes());
    Rotated r;
    if (layout == Layout::kRows) r.rows.resize(n * one.bytes());
    for (std::size_t i = 0; i < n; ++i) {
      MatrixView view = one;
      if (layout == Layout::kRows) {
        std::byte* const copy = r.rows.data() + i * one.bytes();
        std::memcpy(copy, one.data, one.bytes());
        view.data = copy;
      } else {
        r.packed.push_back(std::move(*PackedMatrix::pack(one)));
        view = r.packed.back().view();
      }
      r.views.push_back(view);
    }
    return r;
  }
  std::size_t bytes() const { return views.size() * views[0].bytes(); }
};

/// Keeps what was made last: a benchmark is run several times, in random order.
class Shelf {
 public:
  explicit Shelf(std::size_t most_bytes) : most_(most_bytes) {}

  /// What `make` returned for this name: a shared_ptr and its size in bytes.
  template <class T>
  std::shared_ptr<T> get(const std::string& name,
                         const std::function<std::pair<std::shared_ptr<T>, std::size_t>()>& make) {
    for (auto item = items_.begin(); item != items_.end(); ++item)
      if (item->name == name) {
        items_.splice(items_.begin(), items_, item);
        return std::static_pointer_cast<T>(items_.front().what);
      }
    auto [what, bytes] = make();
    if (what == nullptr) return nullptr;
    items_.push_front({name, what, bytes});
    used_ += bytes;
    for (; used_ > most_ && items_.size() > 1; items_.pop_back()) used_ -= items_.back().bytes;
    return what;
  }

 private:
  struct Item {
    std::string name;
    std::shared_ptr<void> what;
    std::size_t bytes;
  };
  std::list<Item> items_;  ///< last used first
  std::size_t most_, used_ = 0;
};

/// Y = X W^T in double precision of the weights as they are stored and of X as it is: what every
/// library's result is compared with. The first rows of both are enough.
struct Reference {
  std::size_t n = 0, m = 0;
  std::vector<double> y;  ///< m x n

  static Reference of(const MatrixView& w, Span2d<const float> x) {
    Reference r{std::min(kDifferentRows, w.rows), std::min<std::size_t>(8, x.rows), {}};
    std::vector<float> values(r.n * w.cols);
    dequantize_rows(w, 0, Span2d<float>(values.data(), r.n, w.cols));
    r.y.resize(r.m * r.n);
    for (std::size_t m = 0; m < r.m; ++m)
      for (std::size_t n = 0; n < r.n; ++n) {
        double sum = 0;
        for (std::size_t k = 0; k < w.cols; ++k)
          sum += double{values[n * w.cols + k]} * x.row(m)[k];
        r.y[m * r.n + n] = sum;
      }
    return r;
  }
  /// Root mean square of the differences, in units of the products' own.
  double error_of(const float* result, std::size_t stride, std::size_t rows) const {
    double error = 0, power = 0;
    for (std::size_t i = 0; i < std::min(m, rows); ++i)
      for (std::size_t j = 0; j < n; ++j) {
        const double exact = y[i * n + j], difference = result[i * stride + j] - exact;
        error += difference * difference;
        power += exact * exact;
      }
    return std::sqrt(error / power);
  }
};

}  // namespace kquant::bench
