#pragma once
// The encoders as they are compiled: once for each width of a register (tu/).

#include <cstddef>

#include "kquant/format/info.hpp"
#include "kquant/quantize.hpp"

namespace kquant::detail {

/// Floats, rows x cols, and where their blocks go.
struct RowsToEncode {
  const float* x;
  std::size_t stride;  ///< floats from row to row
  std::size_t rows, cols;
  const float* importance;  ///< of the columns, or nullptr
  float importance_floor;
  Effort effort;
  bool unbiased;  ///< see QuantizeOptions
  std::byte* out;
  std::size_t out_stride;  ///< bytes from row to row
};

/// Writes the blocks, the same bytes from each of these; false, and who knows what, where one of
/// the floats is a NaN or an infinity.
using EncodeRows = bool (*)(const RowsToEncode&);

/// By the floats of a register; nullptr for a type that is no weight format.
EncodeRows find_encoder_4(TensorType type);
EncodeRows find_encoder_8(TensorType type);
EncodeRows find_encoder_16(TensorType type);

/// That of the current ISA.
EncodeRows find_encoder(TensorType type);

}  // namespace kquant::detail
