#pragma once
// Perplexity of a model on a text, and how far its predictions are from a reference model's.
// Method: that of llama.cpp's perplexity tool: windows of n_ctx tokens, BOS first where the
// vocabulary asks for it, only the second half of each window scored.

#include <cstddef>
#include <functional>
#include <optional>
#include <string_view>

#include "kquant/base/error.hpp"
#include "kquant/model/transformer.hpp"

namespace kquant {

struct PerplexityOptions {
  int context = 512;              ///< tokens a window
  int chunks = 0;                 ///< windows at most; 0: all of the text
  KvType kv_type = KvType::kF16;  ///< of the model; the reference has kF16
  /// After each window; return false to stop (kInvalidArgument "interrupted").
  std::function<bool(int done, int total, double perplexity)> progress = {};
};

/// Mean and standard error over scored tokens.
struct Estimate {
  double mean = 0, error = 0;
};

struct Divergence {
  Estimate kl;  ///< D(reference || model), nats a token
  double kl_median = 0, kl_p90 = 0, kl_p95 = 0, kl_p99 = 0, kl_p999 = 0, kl_max = 0;
  Estimate same_top;         ///< share of tokens with the same most likely successor
  Estimate rms_probability;  ///< root mean square of p(correct token) - p_reference(correct token)
  Estimate log_ratio;        ///< mean of ln PPL(model) - ln PPL(reference)
  double reference_perplexity = 0;
};

struct PerplexityResult {
  double perplexity = 0, perplexity_error = 0;  ///< error: standard error of the perplexity
  Estimate nll;                                 ///< nats a token
  std::size_t scored_tokens = 0;
  int chunks = 0;
  double seconds = 0;            ///< of the model's forward passes, the reference's left out
  double tokens_per_second = 0;  ///< evaluated (not only scored) tokens in those
  std::optional<Divergence> divergence;
};

/// Of each window of n tokens, those from n/2 + 1 on are scored; log-softmax and sums are in double
/// precision and the same for any number of threads. `reference`, if given, is run side by side
/// window by window: no logits are kept on disk, and at most 64 rows of them in memory.
/// Errors: kInvalidArgument (a text shorter than one window, a window of less than 4 tokens,
/// vocabularies that differ, interrupted), kBadData (logits that are not finite).
Result<PerplexityResult> perplexity(Transformer& model, std::string_view text,
                                    const PerplexityOptions& options = {},
                                    Transformer* reference = nullptr);

}  // namespace kquant
