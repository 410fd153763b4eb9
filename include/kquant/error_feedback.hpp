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
  /// hessian: K x K, symmetric, in any unit. Few inputs let columns seem related by chance: what is
  /// off the diagonal is taken times 1 - shrinkage; nothing of it is left at 1, where H is an
  /// importance matrix. A hundredth of the mean of its diagonal is added to the diagonal: what the
  /// text did not show is not free to change. Memory: two K x K matrices of floats, and one of
  /// doubles while it runs. Errors: kInvalidArgument (not square, a shrinkage outside of 0 .. 1),
  /// kBadData (not finite, a negative diagonal).
  static Result<ErrorFeedback> prepare(Span2d<const float> hessian, double shrinkage = 0);

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

/// Rows that are to become blocks of a type.
struct FeedbackSample {
  TensorType type;
  Span2d<const float> rows;
};

/// The shrinkage with which error feedback for one part of the inputs of a text makes the least
/// product_error() for another part, `held_out`, summed over samples of what meets these inputs: 1
/// where the text tells no more than an importance matrix. Errors: those of prepare(), quantize()
/// and product_error().
Result<double> choose_shrinkage(Span2d<const float> hessian, Span2d<const float> held_out,
                                std::span<const FeedbackSample> samples,
                                const QuantizeOptions& options = {});

}  // namespace kquant
