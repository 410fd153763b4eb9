#pragma once
// CRUXEval: what does a Python function return (O), or which input makes it return this (I)?
// Source: Gu et al. 2024, "CRUXEval: A Benchmark for Code Reasoning, Understanding and Execution".

#include <string>
#include <string_view>

#include "kquant/eval/task.hpp"

namespace kquant {

/// The expression an output answers with: what follows the first [ANSWER], up to [/ANSWER]. Of it,
/// O: what follows the first `==`; I: what precedes it, from the `f` after `assert` on.
std::string extract_cruxeval(std::string_view output, Task task);

}  // namespace kquant
