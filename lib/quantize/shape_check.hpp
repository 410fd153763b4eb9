#pragma once
// The checks that quantize, dequantize and measure_error share.

#include <string>
#include <string_view>

#include "kquant/quantize.hpp"

namespace kquant::detail {

/// "Q4_K", or "type 77" for an id that is none.
std::string type_name(TensorType type);

/// rows x cols floats of this type in `bytes` bytes: whole blocks, and exactly that many bytes.
Result<void> check_shape(std::string_view who, TensorType type, std::size_t rows, std::size_t cols,
                         std::size_t stride, std::size_t bytes);

/// kBadData where there is a NaN or an infinity: names the first one's row, counted from first_row,
/// and column.
Result<void> check_finite(Span2d<const float> rows, std::size_t first_row = 0);

/// One finite, non-negative importance a column, or none at all; threads >= 0.
Result<void> check_options(std::string_view who, std::size_t cols, const QuantizeOptions& options);

/// False where all importances are zero, which is as good as none.
bool is_weighted(const QuantizeOptions& options);

/// All that quantize() checks before it looks at a weight.
Result<void> check_request(TensorType type, Span2d<const float> in, std::span<std::byte> out,
                           const QuantizeOptions& options);

}  // namespace kquant::detail
