#pragma once
// MuSR: murder mysteries, object placements and team allocations told as stories. Source: Sprague
// et al. 2023, "MuSR: Testing the Limits of Chain-of-thought with Multistep Soft Reasoning".

#include <optional>
#include <string>
#include <string_view>

#include "kquant/eval/task.hpp"

namespace kquant {

/// What an output answers with: of the lines that contain "answer:", what follows the last one of
/// each; the last of those texts that is not empty, in lower case. nullopt where it has no digit.
std::optional<std::string> extract_musr(std::string_view output);

}  // namespace kquant
