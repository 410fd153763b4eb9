#pragma once
// What is measured at each scored position, and how it is summed up.

#include <optional>
#include <span>
#include <vector>

#include "kquant/eval/perplexity.hpp"

namespace kquant {

/// Negative log-likelihood (nats) of `target` after these logits. Double precision throughout.
double negative_log_likelihood(std::span<const float> logits, Token target);

/// One position's predictions of two models.
struct Comparison {
  double nll = 0, reference_nll = 0;
  double kl = 0;  ///< D(reference || model), nats
  bool same_top = false;
};
Comparison compare(std::span<const float> logits, std::span<const float> reference, Token target);

/// Mean and its standard error; error 0 for fewer than two values.
Estimate mean_of(std::span<const double> values);

/// Square root of an estimate of a mean of squares, its error propagated.
Estimate root_of(const Estimate& mean_square);

Divergence summarize(std::span<const Comparison> comparisons);

}  // namespace kquant
