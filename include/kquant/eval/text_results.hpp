#pragma once
// Perplexity and divergence on a text as a file of results: a header and one line of measures.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "kquant/eval/evaluation.hpp"
#include "kquant/eval/perplexity.hpp"

namespace kquant {

struct TextEvaluationOptions {
  std::filesystem::path text;
  int context = 512, chunks = 0;
  std::optional<ModelIdentity> reference;  ///< divergence from it; empty: perplexity alone
  std::function<bool(int done, int total, double perplexity)> progress = {};
};

/// Measures, unless `results` is complete already: then its measures are returned. While it grows
/// the file has a line for each window, so that a run that was stopped goes on with the next one.
/// `reference` is the model of options.reference, null without. Errors: kInvalidArgument (`results`
/// holds others), those of perplexity().
Result<PerplexityResult> evaluate_text(Transformer& model, const ModelIdentity& identity,
                                       Transformer* reference, const TextEvaluationOptions& options,
                                       const std::filesystem::path& results);

/// Whether `results` is complete, so that no model is needed. Errors: as evaluate_text().
Result<bool> is_evaluated(const ModelIdentity& identity, const TextEvaluationOptions& options,
                          const std::filesystem::path& results);

/// The measures as one JSON object, by the names that files of results and `kquant perplexity
/// --json` have in common: {"perplexity": …, "nll": {"mean": …, "error": …}, "divergence": {…}}.
std::string json_of(const PerplexityResult& result);

}  // namespace kquant
