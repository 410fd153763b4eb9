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

/// What to say of a NaN or an infinity.
std::string cannot_quantize(std::size_t row, std::size_t column, float value);

/// One finite, non-negative importance a column, or none at all; threads >= 0.
Result<void> check_options(std::string_view who, std::size_t cols, const QuantizeOptions& options);

}  // namespace kquant::detail
