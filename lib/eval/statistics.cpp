#include "kquant/eval/statistics.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <random>
#include <vector>

namespace kquant {
namespace {

/// Uniform in [0, n): the high half of a product, whose bias of n / 2^64 nobody can see.
std::size_t below(std::mt19937_64& random, std::size_t n) {
  const std::uint64_t r = random();
  const std::uint64_t high = (r >> 32) * n, low = (r & 0xffffffffu) * n;
  return static_cast<std::size_t>((high + (low >> 32)) >> 32);  // n < 2^32
}

}  // namespace

Interval bootstrap_mean(std::span<const double> scores, double level, int resamples,
                        std::uint64_t seed) {
  if (scores.empty() || resamples < 1) return {};
  std::mt19937_64 random(seed);
  std::vector<double> means(static_cast<std::size_t>(resamples));
  for (double& mean : means) {
    double sum = 0;
    for (std::size_t i = 0; i < scores.size(); ++i) sum += scores[below(random, scores.size())];
    mean = sum / static_cast<double>(scores.size());
  }
  std::ranges::sort(means);
  const double tail = (1 - level) / 2, last = static_cast<double>(means.size() - 1);
  return {means[static_cast<std::size_t>(std::floor(tail * last))],
          means[static_cast<std::size_t>(std::ceil((1 - tail) * last))]};
}

PairedFlips paired_flips(std::span<const double> reference, std::span<const double> scores) {
  assert(reference.size() == scores.size());
  PairedFlips flips;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const bool before = reference[i] > 0.5, after = scores[i] > 0.5;
    flips.right_to_wrong += before && !after;
    flips.wrong_to_right += !before && after;
  }
  flips.p = mcnemar_p(flips.right_to_wrong, flips.wrong_to_right);
  return flips;
}

double mcnemar_p(std::size_t b, std::size_t c) {
  constexpr std::size_t kExact = 1000;
  const std::size_t n = b + c;
  if (n == 0) return 1;
  if (n > kExact) {
    const double difference = std::abs(static_cast<double>(b) - static_cast<double>(c));
    const double corrected = std::max(difference - 1, 0.0);
    return std::erfc(std::sqrt(corrected * corrected / static_cast<double>(n) / 2));
  }
  // Twice the lower tail of Binomial(n, 1/2); term k follows from term k - 1.
  double term = std::exp2(-static_cast<double>(n)), tail = term;
  for (std::size_t k = 1; k <= std::min(b, c); ++k) {
    term *= static_cast<double>(n - k + 1) / static_cast<double>(k);
    tail += term;
  }
  return std::min(1.0, 2 * tail);
}

double pass_at_k(std::size_t n, std::size_t c, std::size_t k) {
  assert(c <= n);
  if (n == 0) return 0;
  if (n - c < k) return 1;
  double none = 1;
  for (std::size_t j = n - c + 1; j <= n; ++j)
    none *= 1 - static_cast<double>(k) / static_cast<double>(j);
  return 1 - none;
}

}  // namespace kquant
