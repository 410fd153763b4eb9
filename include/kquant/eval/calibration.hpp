#pragma once
// Importance matrices from a calibration text: what a model's weights meet when it reads it.

#include <functional>
#include <string_view>

#include "kquant/base/error.hpp"
#include "kquant/imatrix.hpp"
#include "kquant/model/transformer.hpp"

namespace kquant {

struct CalibrationOptions {
  int context = 512;  ///< tokens a window
  int chunks = 0;     ///< windows at most; 0: all of the text
  /// After each window; return false to stop (kInvalidArgument "interrupted").
  std::function<bool(int done, int total)> progress = {};
};

/// Sums of squares of the inputs of every matrix within the layers, over windows cut as for
/// perplexity(). The output matrix is not covered, as usual: it rarely profits. Takes the model's
/// observer, and leaves it without one.
/// Errors: kInvalidArgument (a text shorter than one window, interrupted), kBadData (a model whose
/// activations are not finite).
Result<Imatrix> collect_imatrix(Transformer& model, std::string_view text,
                                const CalibrationOptions& options = {});

}  // namespace kquant
