#pragma once
// MMLU-Pro: questions with three to ten options in fourteen categories. Source: TIGER-Lab,
// MMLU-Pro (Wang et al. 2024).

#include <optional>
#include <string>
#include <string_view>

#include "kquant/eval/task.hpp"

namespace kquant {

/// The letter an output answers with; nullopt where no rule of the set finds one. The rules are
///   1. the first "answer is (X)", parentheses optional,
///   2. "answer: X" or "Answer: X", the last of the first line that has one,
///   3. the last letter A to J that stands alone.
std::optional<std::string> extract_mmlu_pro(std::string_view output, MmluProRules rules);

}  // namespace kquant
