#pragma once
// Python literals compared without running Python: numbers, texts, None, True, False, and lists,
// tuples, sets and dicts of them. Most answers to CRUXEval are such literals.

#include <optional>
#include <string_view>

namespace kquant {

/// Whether `assert a == b` holds, where both are literals this reader is sure about; nullopt for
/// anything else (calls, arithmetic, rare escapes, a tuple without parentheses, numbers that do not
/// compare exactly here), which Python itself has to judge.
std::optional<bool> literals_equal(std::string_view a, std::string_view b);

}  // namespace kquant
