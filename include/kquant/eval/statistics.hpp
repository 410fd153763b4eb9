#pragma once
// What can be said about scores: intervals, paired differences, pass@k.

#include <cstddef>
#include <cstdint>
#include <span>

namespace kquant {

struct Interval {
  double low = 0, high = 0;
};

/// Percentile bootstrap of the mean: `resamples` means of as many scores drawn with replacement, of
/// which the middle `level` is taken. The same for the same seed on every platform. No scores: 0,
/// 0.
Interval bootstrap_mean(std::span<const double> scores, double level = 0.95, int resamples = 2000,
                        std::uint64_t seed = 1);

/// Two sets of scores of the same items, in the same order. An item counts as right where its score
/// is over one half.
struct PairedFlips {
  std::size_t right_to_wrong = 0, wrong_to_right = 0;
  double p = 1;  ///< mcnemar_p() of the two
};
/// Precondition: equal sizes.
PairedFlips paired_flips(std::span<const double> reference, std::span<const double> scores);

/// Two-sided p of b and c discordant pairs under "both directions are equally likely": McNemar's
/// test, by the exact binomial for up to 1,000 pairs, else by chi-squared with continuity
/// correction. 1 for none.
double mcnemar_p(std::size_t b, std::size_t c);

/// Unbiased estimate of the probability that at least one of k samples is right, of n samples with
/// c right ones: 1 - C(n-c, k) / C(n, k); 1 where n - c < k. No samples: 0. Source: Chen et al.
/// 2021, "Evaluating Large Language Models Trained on Code".
double pass_at_k(std::size_t n, std::size_t c, std::size_t k);

}  // namespace kquant
