#pragma once
// Measures of a text as JSON, there and back.

#include "eval/results.hpp"
#include "kquant/eval/perplexity.hpp"

namespace kquant {

ResultsJson json_object(const PerplexityResult& result);
/// Errors: kBadFile (a field missing or mistyped: names it).
Result<PerplexityResult> measures_of(const ResultsJson& object);

}  // namespace kquant
