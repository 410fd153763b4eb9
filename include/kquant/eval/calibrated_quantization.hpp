#pragma once
// Quantizing a model for a text: error feedback, layer by layer.

#include <filesystem>
#include <string_view>

#include "kquant/base/error.hpp"
#include "kquant/eval/calibration.hpp"
#include "kquant/quantize_model.hpp"

namespace kquant {

/// quantize_model() with error feedback (error_feedback.hpp) for every matrix within the layers and
/// an output matrix of its own, by what they meet as the model reads `text`; all other tensors take
/// the ordinary path. Windows as for collect_imatrix(), of at most 512 tokens. Memory: one layer's
/// matrices, one of them as floats, a square of each of their inputs, and a state (n_embd floats) a
/// token of the text; quantized tensors wait for their turn where a file does not go by layers. The
/// bytes do not depend on the number of threads. Errors: those of quantize_model(),
/// Transformer::load() and collect_imatrix().
Result<QuantizeReport> quantize_calibrated(const gguf::File& in, const std::filesystem::path& out,
                                           const Recipe& recipe, std::string_view text,
                                           const QuantizeModelOptions& options = {},
                                           const CalibrationOptions& calibration = {});

}  // namespace kquant
