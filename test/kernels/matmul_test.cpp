// Products against a double-precision reference of the same quantized numbers, and their promise:
// the same bits for every ISA, number of threads and split into calls.

#include <omp.h>

#include <cmath>
#include <limits>

#include "every_isa.hpp"
#include "kquant/matmul.hpp"
#include "worst.hpp"

using namespace kquant;

namespace {

constexpr float kPoison = -54321.0f;

std::size_t group_of(TensorType type) {
  return type_info(type).support == Support::kPlain ? 0 : type_info(type).block_size;
}

/// What the weights of one row stand for, in double: the factor of each code and what is taken
/// away.
template <class F>
void exact_row(const std::byte* row, std::size_t cols, std::vector<double>& value,
               std::vector<double>& size) {
  value.resize(cols);
  size.resize(cols);
  if constexpr (BlockFormat<F>) {
    for (std::size_t b = 0; b < cols / F::kBlock; ++b) {
      typename F::Block block;
      std::memcpy(&block, row + b * sizeof block, sizeof block);
      const auto scales = F::unpack_scales(block);
      for (int i = 0; i < F::kBlock; ++i) {
        const int sub = i / F::kSub;
        const int q = code_at<F>(bytes_of<F>(block), i / F::kRun, i % F::kRun) - F::kZero;
        const double term = double{F::d(block)} * scales.scale_at(sub) * q;
        const double min = F::kHasMin ? double{F::dmin(block)} * scales.min_at(sub) : 0.0;
        const std::size_t k = b * F::kBlock + static_cast<std::size_t>(i);
        value[k] = term - min;
        // A zero point is taken away from the sum of products, not from each code.
        size[k] = std::abs(term) + std::abs(min);
      }
    }
  } else {
    for (std::size_t k = 0; k < cols; ++k) {
      typename F::Element element;
      std::memcpy(&element, row + k * sizeof element, sizeof element);
      value[k] = F::value(element);
      size[k] = std::abs(value[k]);
    }
  }
}

/// Activations after rounding to int8 per group, in double.
std::vector<double> rounded(const float* x, std::size_t cols, std::size_t group) {
  std::vector<double> a(cols);
  if (group == 0) return {x, x + cols};
  for (std::size_t g = 0; g < cols; g += group) {
    float most = 0.0f;
    for (std::size_t i = 0; i < group; ++i) most = std::max(most, std::abs(x[g + i]));
    const float scale = most / 127.0f;
    const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
    for (std::size_t i = 0; i < group; ++i)
      a[g + i] = double{scale} * std::nearbyintf(x[g + i] * inverse);
  }
  return a;
}

std::vector<float> product(const MatrixView& w, const std::vector<float>& x, std::size_t m,
                           MatmulWorkspace& workspace) {
  std::vector<float> y(m * w.rows, kPoison);
  matmul(w, Span2d<const float>(x.data(), m, w.cols), Span2d<float>(y.data(), m, w.rows),
         workspace);
  return y;
}

/// fn(view) with the matrix as it is, and packed where that can be.
template <class Fn>
void for_each_layout(const MatrixView& w, Fn&& fn) {
  fn(w);
  if (!can_pack(w.type)) return;
  INFO("packed");
  const auto packed = PackedMatrix::pack(w);
  REQUIRE(packed);
  fn(packed->view());
}

struct Shape {
  std::size_t n, blocks, m;
};

/// Odd ones, sub-tiles, whole tiles and more than a tile; blocks of 32 make ends of super-blocks.
const Shape kShapes[] = {{1, 1, 1},    {3, 2, 1},   {17, 9, 1},  {17, 5, 2}, {5, 3, 3},
                         {3, 7, 4},    {17, 1, 5},  {40, 4, 7},  {7, 8, 8},  {33, 3, 9},
                         {19, 11, 21}, {16, 9, 16}, {50, 5, 17}, {5, 2, 31}, {35, 2, 64},
                         {27, 3, 53},  {16, 3, 131}};

std::size_t columns(TensorType type, std::size_t blocks) {
  return group_of(type) == 0 ? 13 * blocks + 7 : group_of(type) * blocks;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), 4 * a.size()) == 0;
}

struct Threads {
  explicit Threads(int n) : before(omp_get_max_threads()) { omp_set_num_threads(n); }
  ~Threads() { omp_set_num_threads(before); }
  int before;
};

}  // namespace

TEST_CASE("products agree with double precision, and all ISAs with each other") {
  test::for_each_format([]<class F>() {
    INFO(std::string(F::name));
    for (const Shape& shape : kShapes) {
      const std::size_t cols = columns(F::type, shape.blocks);
      INFO("N " << shape.n << " K " << cols << " M " << shape.m);
      const auto bytes = test::random_weights<F>(shape.n, cols, 11);
      const MatrixView w{F::type, shape.n, cols, bytes.data()};
      const auto x = test::random_floats(shape.m * cols, 12);
      MatmulWorkspace workspace;
      std::vector<float> first[2];
      test::for_each_isa([&](Isa) {
        for_each_layout(w, [&](const MatrixView& view) {
          const auto y = product(view, x, shape.m, workspace);
          const bool packed = view.layout == Layout::kPacked ||
                              (can_pack(view.type) && shape.m > kernels::kFewRows);
          std::vector<float>& others = first[packed];
          if (others.empty()) others = y;
          REQUIRE(same_bits(y, others));
        });
      });
      double worst[2] = {};
      for (std::size_t n = 0; n < shape.n; ++n) {
        std::vector<double> value, size;
        exact_row<F>(w.row(n), cols, value, size);
        for (std::size_t m = 0; m < shape.m; ++m) {
          const auto a = rounded(x.data() + m * cols, cols, group_of(F::type));
          double sum = 0, scale = 0;
          for (std::size_t k = 0; k < cols; ++k) {
            sum += value[k] * a[k];
            scale += size[k] * std::abs(a[k]);
          }
          for (int layout = 0; layout < 2; ++layout)
            if (!first[layout].empty())
              worst[layout] = test::worse(worst[layout],
                                          std::abs(first[layout][m * shape.n + n] - sum) / scale);
        }
      }
      CHECK(worst[0] < 1e-6);
      CHECK(worst[1] < 1e-6);
    }
  });
}

TEST_CASE("threads and splits into calls do not change a bit") {
  test::for_each_isa([](Isa isa) {
    // Enough work that threads are used, but not for the slow path.
    const std::size_t n = isa == Isa::kScalar ? 67 : 131, m = 19;
    test::for_each_format([&]<class F>() {
      INFO(std::string(F::name));
      const std::size_t cols = 1024;
      const auto bytes = test::random_weights<F>(n, cols, 21);
      const MatrixView w{F::type, n, cols, bytes.data()};
      const auto x = test::random_floats(m * cols, 22);
      MatmulWorkspace workspace;
      for_each_layout(w, [&](const MatrixView& view) {
        std::vector<float> whole;
        for (const int threads : {1, 2, 3}) {
          const Threads guard(threads);
          const auto y = product(view, x, m, workspace);
          if (whole.empty()) whole = y;
          CHECK(same_bits(y, whole));
        }
        if (view.layout == Layout::kRows && can_pack(view.type)) return;  // below
        std::vector<float> one_by_one;
        for (std::size_t row = 0; row < m; ++row) {
          const std::vector<float> xr(x.begin() + static_cast<long>(row * cols),
                                      x.begin() + static_cast<long>((row + 1) * cols));
          const auto y = product(view, xr, 1, workspace);
          one_by_one.insert(one_by_one.end(), y.begin(), y.end());
        }
        CHECK(same_bits(one_by_one, whole));
      });
    });
  });
}

TEST_CASE("a few rows of X at a time do not change a bit of weights as they lie in a file") {
  test::for_each_isa([](Isa) {
    WeightFormats::for_each([]<class F>() {
      INFO(std::string(F::name));
      const std::size_t cols = F::kBlock * 9, n = 21, m = kernels::kFewRows;
      const auto bytes = test::random_weights<F>(n, cols, 23);
      const MatrixView w{F::type, n, cols, bytes.data()};
      const auto x = test::random_floats(m * cols, 24);
      MatmulWorkspace workspace;
      const auto whole = product(w, x, m, workspace);
      for (std::size_t at_once = 1; at_once < m; ++at_once) {
        std::vector<float> parts;
        for (std::size_t row = 0; row < m; row += at_once) {
          const std::size_t end = std::min(row + at_once, m);
          const std::vector<float> part(x.begin() + static_cast<long>(row * cols),
                                        x.begin() + static_cast<long>(end * cols));
          const auto y = product(w, part, end - row, workspace);
          parts.insert(parts.end(), y.begin(), y.end());
        }
        CHECK(same_bits(parts, whole));
      }
    });
  });
}

TEST_CASE("several matrices at once equal one after the other; strides and guards are respected") {
  test::for_each_isa([](Isa) {
    const std::size_t cols = 512, m = 3, gap = 5;
    const auto q4 = test::random_weights<Q4_K>(9, cols, 31);
    const auto q8 = test::random_weights<Q8_0>(4, cols, 32);
    const auto f16 = test::random_weights<F16>(6, cols, 33);
    const auto packed = PackedMatrix::pack({TensorType::Q4_K, 9, cols, q4.data()});
    REQUIRE(packed);
    const std::vector<MatrixView> ws = {{TensorType::Q4_K, 9, cols, q4.data()},
                                        {TensorType::Q8_0, 4, cols, q8.data()},
                                        packed->view(),
                                        {TensorType::F16, 6, cols, f16.data()}};
    const auto x = test::random_floats(m * (cols + gap), 34);
    const Span2d<const float> xs(x.data(), m, cols, cols + gap);
    std::vector<float> dense;
    for (std::size_t r = 0; r < m; ++r)
      dense.insert(dense.end(), xs.row(r).begin(), xs.row(r).end());
    MatmulWorkspace workspace;
    std::vector<std::vector<float>> outs;
    std::vector<Span2d<float>> ys;
    for (const MatrixView& w : ws) outs.emplace_back((m + 1) * (w.rows + gap), kPoison);
    for (std::size_t i = 0; i < ws.size(); ++i)
      ys.emplace_back(outs[i].data(), m, ws[i].rows, ws[i].rows + gap);
    matmul(ws, xs, ys, workspace);
    for (std::size_t i = 0; i < ws.size(); ++i) {
      const auto alone = product(ws[i], dense, m, workspace);
      for (std::size_t r = 0; r < m + 1; ++r)
        for (std::size_t n = 0; n < ws[i].rows + gap; ++n) {
          const float value = outs[i][r * (ws[i].rows + gap) + n];
          const bool inside = r < m && n < ws[i].rows;
          REQUIRE(value == (inside ? alone[r * ws[i].rows + n] : kPoison));
        }
    }
  });
}

TEST_CASE("NaN and Inf make their own row of outputs NaN and no other; zeros and dust give zero") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  test::for_each_isa([&](Isa) {
    WeightFormats::for_each([&]<class F>() {
      INFO(std::string(F::name));
      const std::size_t cols = 512, n = 5, m = 6;
      const auto bytes = test::random_weights<F>(n, cols, 41);
      auto x = test::random_floats(m * cols, 42);
      x[0 * cols + 300] = nan;
      x[1 * cols + 17] = -inf;
      for (std::size_t k = 0; k < cols; ++k) {
        x[2 * cols + k] = 0.0f;
        x[3 * cols + k] = k % 3 == 0 ? 1e-41f : -1e-40f;
        x[4 * cols + k] = k % 2 == 0 ? 3.3e38f : -3.3e38f;
      }
      MatmulWorkspace workspace;
      for_each_layout({F::type, n, cols, bytes.data()}, [&](const MatrixView& view) {
        const auto y = product(view, x, m, workspace);
        for (std::size_t i = 0; i < n; ++i) {
          CHECK(std::isnan(y[0 * n + i]));
          CHECK(std::isnan(y[1 * n + i]));
          CHECK(y[2 * n + i] == 0.0f);
          CHECK(y[3 * n + i] == 0.0f);
          CHECK(std::isfinite(y[5 * n + i]));
        }
      });
    });
  });
}

TEST_CASE("extreme codes do not overflow the integer sums") {
  test::for_each_isa([](Isa) {
    WeightFormats::for_each([]<class F>() {
      INFO(std::string(F::name));
      for (const int fill : {0x00, 0x7f, 0x80, 0xff}) {
        const std::size_t cols = 768, n = 18;
        std::vector<std::byte> bytes(n * row_bytes(F::type, cols), static_cast<std::byte>(fill));
        for (std::size_t at = 0; at < bytes.size(); at += sizeof(typename F::Block)) {
          typename F::Block block;
          std::memcpy(&block, bytes.data() + at, sizeof block);
          F::set_d(block, 1.0f, 0.5f);
          std::memcpy(bytes.data() + at, &block, sizeof block);
        }
        const MatrixView w{F::type, n, cols, bytes.data()};
        for (const float sign : {1.0f, -1.0f}) {
          std::vector<float> x(cols, sign);
          for (std::size_t k = 0; k < cols; k += 64) x[k] = -sign;
          MatmulWorkspace workspace;
          std::vector<double> value, size;
          exact_row<F>(w.row(n - 1), cols, value, size);
          const auto a = rounded(x.data(), cols, group_of(F::type));
          double sum = 0, scale = 0;
          for (std::size_t k = 0; k < cols; ++k) {
            sum += value[k] * a[k];
            scale += size[k] * std::abs(a[k]);
          }
          for_each_layout(w, [&](const MatrixView& view) {
            // Each way of Q2_K and Q3_K, one panel and two.
            for (const std::size_t m : {1u, 3u, 25u, 49u}) {
              std::vector<float> xs;
              for (std::size_t i = 0; i < m; ++i) xs.insert(xs.end(), x.begin(), x.end());
              const auto y = product(view, xs, m, workspace);
              CHECK(std::abs(y[m * n - 1] - sum) <= 1e-6 * scale);
            }
          });
        }
      }
    });
  });
}

TEST_CASE("an empty product is empty") {
  MatmulWorkspace workspace;
  const auto bytes = test::random_weights<Q4_K>(2, 256, 51);
  const MatrixView w{TensorType::Q4_K, 2, 256, bytes.data()};
  std::vector<float> y(2, kPoison);
  matmul(w, Span2d<const float>(nullptr, 0, 256), Span2d<float>(y.data(), 0, 2), workspace);
  CHECK(y[0] == kPoison);
  const float x[256] = {};
  matmul({TensorType::Q4_K, 0, 256, nullptr}, Span2d<const float>(x, 1, 256),
         Span2d<float>(y.data(), 1, 0), workspace);
  CHECK(y[0] == kPoison);
}
