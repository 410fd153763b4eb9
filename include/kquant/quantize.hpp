#pragma once
// Float rows to packed blocks and back.

#include <cstddef>
#include <span>

#include "kquant/base/error.hpp"
#include "kquant/base/span2d.hpp"
#include "kquant/format/info.hpp"

namespace kquant {

/// How long the quantizer searches a block for its scales. docs/quantizer.md has error and speed.
enum class Effort {
  kFast,  ///< a few starts a sub-block: for files of many gigabytes
  kBest,  ///< until nothing nearby is better
};

struct QuantizeOptions {
  /// One non-negative, finite weight per column (of an imatrix: the mean squared activation of that
  /// input): the quantizer minimises sum v[k] * (w[k] - w'[k])^2 with v[k] = importance[k] plus
  /// importance_floor times the block's mean importance. Empty, or all zero in a block: v = 1.
  std::span<const float> importance = {};
  /// 0: as many as OpenMP would use. The bytes do not depend on it.
  int threads = 0;
  Effort effort = Effort::kBest;
  /// How little the importances are trusted, from 1e-6 to 1e6. A quarter keeps the plain error near
  /// what it is without them; whole models come out better with less (docs/quantizer.md).
  float importance_floor = 0.25f;
  /// The scales of least error make rows too short: sum v w' w = sum v w^2 less the error, and
  /// every product with them comes out as much too small. True: each block's scales are raised
  /// until nothing is missing. The error grows by as much again, and models come out better
  /// (docs/quantizer.md).
  bool unbiased = false;
};

/// True for every plain type and every block format, activation formats included.
bool can_quantize(TensorType type);

/// Quantizes in (rows x cols floats) into out, exactly in.rows * row_bytes(type, in.cols) bytes.
/// The same bytes for any thread count, compiler and optimisation level.
/// Values beyond a format's range become its largest; no infinity is ever written.
/// Errors: kInvalidArgument (type, sizes, importance), kBadData (NaN or Inf: names row and column,
/// counted from 0; what `out` then holds is unspecified).
Result<void> quantize(TensorType type, Span2d<const float> in, std::span<std::byte> out,
                      const QuantizeOptions& options = {});

/// Packed rows back to floats; the reference (scalar) path. Errors: kInvalidArgument, kUnsupported.
Result<void> dequantize(TensorType type, std::span<const std::byte> in, Span2d<float> out);

/// How far quantized rows are from the original, as accumulated sums: add up parts, then divide.
struct QuantizationError {
  double error = 0;           ///< sum (w - w')^2
  double power = 0;           ///< sum w^2
  double weighted_error = 0;  ///< the same, times the column's importance (1 without one)
  double weighted_power = 0;
  double max_abs = 0;  ///< max |w - w'|

  /// sqrt(sum (w - w')^2 / sum w^2); 0 where both are 0.
  double rel_rmse() const;
  double weighted_rel_rmse() const;
  QuantizationError& operator+=(const QuantizationError& other);
};

/// Compares rows with their quantized form. Summation order is fixed (by row), whatever the
/// threads.
Result<QuantizationError> measure_error(TensorType type, Span2d<const float> original,
                                        std::span<const std::byte> packed,
                                        const QuantizeOptions& options = {});

}  // namespace kquant
