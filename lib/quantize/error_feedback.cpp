#include "kquant/error_feedback.hpp"

#include <fmt/format.h>
#include <omp.h>

#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <cmath>
#include <vector>

#include "feedback_rows.hpp"
#include "kquant/format/all.hpp"
#include "shape_check.hpp"

namespace kquant {
namespace {

// Sums run in an order that depends on how large Eigen believes the caches to be: the same
// everywhere.
const bool kSameEverywhere = [] {
  Eigen::setCpuCacheSizes(32 << 10, 512 << 10, 2 << 20);
  return true;
}();

constexpr double kDamping = 0.02;  ///< of the mean of the diagonal

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Stride = Eigen::OuterStride<>;

Eigen::Map<const Floats, 0, Stride> map(Span2d<const float> m) {
  return {m.data, static_cast<Eigen::Index>(m.rows), static_cast<Eigen::Index>(m.cols),
          Stride(static_cast<Eigen::Index>(m.stride))};
}

}  // namespace

void detail::add_product(Span2d<const float> a, Span2d<const float> b, Span2d<float> c) {
  Eigen::Map<Floats, 0, Stride> out(c.data, static_cast<Eigen::Index>(c.rows),
                                    static_cast<Eigen::Index>(c.cols),
                                    Stride(static_cast<Eigen::Index>(c.stride)));
  out.noalias() += map(a) * map(b);
}

struct ErrorFeedback::State {
  std::size_t cols = 0;
  std::vector<float> hessian, factor, importance;

  detail::FeedbackMatrices matrices() const {
    return {cols, hessian.data(), factor.data(), importance.data()};
  }
};

ErrorFeedback::ErrorFeedback(std::unique_ptr<State> state) : state_(std::move(state)) {}
ErrorFeedback::ErrorFeedback(ErrorFeedback&&) noexcept = default;
ErrorFeedback& ErrorFeedback::operator=(ErrorFeedback&&) noexcept = default;
ErrorFeedback::~ErrorFeedback() = default;

std::size_t ErrorFeedback::cols() const {
  return state_->cols;
}

Result<ErrorFeedback> ErrorFeedback::prepare(Span2d<const float> hessian, std::size_t inputs) {
  const std::size_t n = hessian.cols;
  if (n == 0 || hessian.rows != n)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("error feedback: a Hessian of {} x {}, expected a square one",
                            hessian.rows, n));
  Matrix h = map(hessian).cast<double>();
  const double trace = h.diagonal().sum();
  if (!h.allFinite() || !(h.diagonal().minCoeff() >= 0))
    return fail(
        ErrorCode::kBadData,
        "error feedback: the Hessian has numbers that are not finite, or a negative diagonal");
  // Inputs that are always zero: all errors cost the same.
  const double unit = trace > 0 ? static_cast<double>(n) / trace : 0.0;
  const double damping = trace > 0 ? kDamping : 1.0;
  const double shared = inputs > n ? 1 - static_cast<double>(n) / static_cast<double>(inputs) : 0.0;
  const Eigen::VectorXd diagonal = unit * h.diagonal();
  h *= unit * shared;
  h.diagonal() = diagonal.array() + damping;

  auto state = std::make_unique<State>();
  state->cols = n;
  state->hessian.resize(n * n);
  state->factor.resize(n * n);
  state->importance.resize(n);
  const auto size = static_cast<Eigen::Index>(n);
  Eigen::Map<Floats>(state->hessian.data(), size, size) = h.cast<float>();
  // An upper triangular factor is the lower one of the matrix with rows and columns reversed.
  h = h.reverse().eval();
  const Eigen::LLT<Eigen::Ref<Matrix>> cholesky(h);
  if (cholesky.info() != Eigen::Success)
    return fail(ErrorCode::kBadData, "error feedback: the Hessian is not positive definite");
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t k = i; k < n; ++k) {
      const auto at = [&](std::size_t row, std::size_t col) {
        return h(size - 1 - static_cast<Eigen::Index>(row),
                 size - 1 - static_cast<Eigen::Index>(col));
      };
      state->factor[i * n + k] = static_cast<float>(at(i, k) / at(k, k));
      if (i == k) state->importance[i] = static_cast<float>(at(i, i) * at(i, i));
    }
  return ErrorFeedback(std::move(state));
}

Result<void> ErrorFeedback::quantize(TensorType type, Span2d<const float> in,
                                     std::span<std::byte> out,
                                     const QuantizeOptions& options) const {
  if (in.cols != cols())
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("error feedback: {} columns, expected the {} of the Hessian", in.cols, cols()));
  if (auto ok = detail::check_shape("quantize", type, in.rows, in.cols, in.stride, out.size()); !ok)
    return ok;
  if (auto ok = detail::check_finite(in); !ok) return ok;
  const int threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  const auto encode = [&]<class F>() {
    constexpr std::size_t kRows = detail::FeedbackRows<F>::kRows;
    const auto groups = static_cast<std::int64_t>((in.rows + kRows - 1) / kRows);
    const std::size_t bytes = row_bytes(F::type, in.cols);
#pragma omp parallel num_threads(threads)
    {
      detail::FeedbackRows<F> rows(state_->matrices(), options.effort, options.unbiased);
#pragma omp for schedule(dynamic)
      for (std::int64_t i = 0; i < groups; ++i) {
        const std::size_t first = static_cast<std::size_t>(i) * kRows;
        rows.encode(in.middle_rows(first, std::min(kRows, in.rows - first)),
                    out.data() + first * bytes);
      }
    }
  };
  if (WeightFormats::visit(type, encode)) return {};
  QuantizeOptions plain = options;
  plain.importance = {};
  return kquant::quantize(type, in, out, plain);
}

Result<double> product_error(Span2d<const float> hessian, Span2d<const float> a,
                             Span2d<const float> b) {
  if (hessian.rows != hessian.cols || a.cols != hessian.cols || b.cols != a.cols ||
      b.rows != a.rows)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("error of products: {} x {} and {} x {} for a Hessian of {} x {}, "
                            "expected two matrices of its columns",
                            a.rows, a.cols, b.rows, b.cols, hessian.rows, hessian.cols));
  double sum = 0;
  constexpr std::size_t kRows = 64;
  for (std::size_t first = 0; first < a.rows; first += kRows) {
    const std::size_t n = std::min(kRows, a.rows - first);
    const Floats e = map(a.middle_rows(first, n)) - map(b.middle_rows(first, n));
    sum += (e * map(hessian)).cwiseProduct(e).cast<double>().sum();
  }
  return sum;
}

}  // namespace kquant
