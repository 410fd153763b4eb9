#pragma once
// What quantizing each tensor costs a model's answers.

#include <string_view>

#include "kquant/allocation.hpp"
#include "kquant/base/error.hpp"
#include "kquant/eval/calibration.hpp"

namespace kquant {

/// Gives costs the unit of nats a token: quantizes each tensor alone, to a type of about 3.5 bits,
/// measures the KL divergence of the model's predictions from those before, and multiplies the
/// tensor's costs by what makes this type's cost that divergence (the costs of other types follow,
/// since small divergences grow as squared errors do). Few windows tell tensors apart: `text`
/// should be some thousands of tokens, or calibration.chunks as many windows as there is time for.
/// Errors: those of Transformer::load(); kInvalidArgument (a text shorter than one window, choices
/// of another model, interrupted).
Result<void> measure_divergences(const gguf::File& in, std::string_view text, Choices& choices,
                                 const CalibrationOptions& calibration = {.chunks = 4});

}  // namespace kquant
