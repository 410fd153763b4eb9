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
  /// hessian: K x K, symmetric, in any unit; a sum over so many inputs. Few inputs make columns
  /// seem related by chance: what is off the diagonal is taken times 1 - K / inputs, so that
  /// nothing of it is left below K inputs, where H is an importance matrix. A fiftieth of the mean
  /// of the diagonal is added to it: what the text did not show is not free to change. Memory: two
  /// K x K matrices of floats, and one of doubles while it runs. Errors: kInvalidArgument (not
  /// square), kBadData (not finite, a negative diagonal).
  static Result<ErrorFeedback> prepare(Span2d<const float> hessian, std::size_t inputs);

  ErrorFeedback(ErrorFeedback&&) noexcept;
  ErrorFeedback& operator=(ErrorFeedback&&) noexcept;
  ~ErrorFeedback();

  std::size_t cols() const;

  /// As kquant::quantize(), with options.importance ignored; plain types are rounded as there. The
  /// same bytes for any number of threads. Errors: as there.
  Result<void> quantize(TensorType type, Span2d<const float> in, std::span<std::byte> out,
                        const QuantizeOptions& options = {}) const;

  struct State;

 private:
  explicit ErrorFeedback(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// sum (a - b) H (a - b)^T over rows: the squared error of the outputs. Errors: kInvalidArgument
/// (shapes).
Result<double> product_error(Span2d<const float> hessian, Span2d<const float> a,
                             Span2d<const float> b);

}  // namespace kquant
