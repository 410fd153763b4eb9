#pragma once
// Perplexity and divergence on a text as a file of results: a header and one line of measures.

#include <filesystem>
#include <functional>

#include "kquant/eval/evaluation.hpp"
#include "kquant/eval/perplexity.hpp"

namespace kquant {

struct TextEvaluationOptions {
  std::filesystem::path text;
  int context = 512, chunks = 0;
  ModelIdentity reference;  ///< where there is one
  std::function<bool(int done, int total, double perplexity)> progress = {};
};

/// Measures, unless `results` is complete already: then its measures are returned. Errors:
/// kInvalidArgument (`results` holds others), those of perplexity().
Result<PerplexityResult> evaluate_text(Transformer& model, const ModelIdentity& identity,
                                       Transformer* reference, const TextEvaluationOptions& options,
                                       const std::filesystem::path& results);

}  // namespace kquant
