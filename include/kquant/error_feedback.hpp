#pragma once
// Quantizing a matrix for the inputs it meets: each weight's error is made up for by the weights
// after it, so that what counts is the error of the product, not that of the weights.

#include <cstddef>
#include <memory>
#include <span>

#include "kquant/base/error.hpp"
#include "kquant/base/span2d.hpp"
#include "kquant/quantize.hpp"

namespace kquant {

/// The inputs x of a matrix, as far as they decide what an error costs: H = sum x x^T. Rows w of
/// the matrix are quantized to w' with a small (w - w') H (w - w')^T, the summed squared error of
/// the outputs. docs/quantizer.md explains how.
class ErrorFeedback {
 public:
  /// hessian: K x K, symmetric, in any unit. `damping` times the mean of its diagonal is added to
  /// the diagonal: what the text did not show is not free to change. Memory: two K x K matrices of
  /// floats, and one of doubles while it runs. Errors: kInvalidArgument (not square), kBadData (not
  /// finite, a negative diagonal).
  static Result<ErrorFeedback> prepare(Span2d<const float> hessian, double damping = 0.02);

  ErrorFeedback(ErrorFeedback&&) noexcept;
  ErrorFeedback& operator=(ErrorFeedback&&) noexcept;
  ~ErrorFeedback();

  std::size_t cols() const;

  /// As kquant::quantize(), with options.importance ignored; plain types are rounded as there. The
  /// same bytes for any number of threads. Errors: as there.
  Result<void> quantize(TensorType type, Span2d<const float> in, std::span<std::byte> out,
                        const QuantizeOptions& options = {}) const;

  /// Changes weights w so that on the inputs y that H is of they answer as w did on inputs x:
  /// w += share w D H^-1, with D = sum (x - y) y^T, K x K in the Hessian's unit. (So a matrix makes
  /// up for what quantized layers before it do to its inputs.) The share falls from 1 to 0 as the
  /// number of inputs falls to 2 K, because few inputs are explained by chance. Errors:
  /// kInvalidArgument (shapes).
  Result<void> follow_inputs(Span2d<const float> change, Span2d<float> weights,
                             std::size_t inputs) const;

  /// sum (a - b) H (a - b)^T over rows, where H has the damping added and is scaled to a mean
  /// diagonal of 1 before. Errors: kInvalidArgument (shapes).
  Result<double> error(Span2d<const float> a, Span2d<const float> b) const;

  struct State;

 private:
  explicit ErrorFeedback(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kquant
