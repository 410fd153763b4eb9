#include "eval/scores.hpp"

#include <algorithm>
#include <cmath>

namespace kquant {
namespace {

double at(std::span<const float> logits, Token token) {
  return logits[static_cast<std::size_t>(token)];
}

/// Of sorted values, interpolated linearly between neighbours.
double percentile(std::span<const double> sorted, double share) {
  const double position = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  const double weight = position - static_cast<double>(below);
  return sorted[below] * (1 - weight) + sorted[above] * weight;
}

}  // namespace

double negative_log_likelihood(std::span<const float> logits, Token target) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum) - at(logits, target);
}

// With p = exp(x - a) / A of the reference and q = exp(y - b) / B of the model (a, b the largest
// logits; A, B the sums), the divergence needs one pass after the maxima:
//
//     sum p (ln p - ln q) = sum exp(x - a) (x - y) / A  -  (a + ln A) + (b + ln B)
Comparison compare(std::span<const float> logits, std::span<const float> reference, Token target) {
  const auto top = std::ranges::max_element(logits),
             top_reference = std::ranges::max_element(reference);
  const double largest = *top, largest_reference = *top_reference;
  double sum = 0, sum_reference = 0, weighted = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double x = reference[i], y = logits[i];
    const double p = std::exp(x - largest_reference);
    sum += std::exp(y - largest);
    sum_reference += p;
    weighted += p * (x - y);
  }
  const double log_sum = largest + std::log(sum);
  const double log_sum_reference = largest_reference + std::log(sum_reference);
  return {.nll = log_sum - at(logits, target),
          .reference_nll = log_sum_reference - at(reference, target),
          .kl = weighted / sum_reference - log_sum_reference + log_sum,
          .same_top = top - logits.begin() == top_reference - reference.begin()};
}

Estimate mean_of(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  if (values.empty()) return {};
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, values.size() < 2 ? 0.0 : std::sqrt(squares / n / (n - 1))};
}

Estimate root_of(const Estimate& mean_square) {
  const double root = std::sqrt(mean_square.mean);
  return {root, root > 0 ? mean_square.error / (2 * root) : 0.0};
}

Divergence summarize(std::span<const Comparison> comparisons) {
  std::vector<double> values(comparisons.size());
  const auto estimate = [&](auto&& value) {
    std::ranges::transform(comparisons, values.begin(), value);
    return mean_of(values);
  };
  Divergence result;
  result.same_top = estimate([](const Comparison& c) { return c.same_top ? 1.0 : 0.0; });
  result.rms_probability = root_of(estimate([](const Comparison& c) {
    return std::pow(std::exp(-c.nll) - std::exp(-c.reference_nll), 2);
  }));
  result.log_ratio = estimate([](const Comparison& c) { return c.nll - c.reference_nll; });
  result.reference_perplexity =
      std::exp(estimate([](const Comparison& c) { return c.reference_nll; }).mean);
  result.kl = estimate([](const Comparison& c) { return c.kl; });
  std::ranges::sort(values);
  result.kl_median = percentile(values, 0.5);
  result.kl_p90 = percentile(values, 0.9);
  result.kl_p95 = percentile(values, 0.95);
  result.kl_p99 = percentile(values, 0.99);
  result.kl_p999 = percentile(values, 0.999);
  result.kl_max = values.back();
  return result;
}

}  // namespace kquant
