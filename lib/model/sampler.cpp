#include "kquant/model/sampler.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>

namespace kquant {
namespace {

/// exp(x) for x <= 0 in plain double arithmetic: bit-identical wherever the library's is not.
/// x = n ln 2 + r, |r| <= ln 2 / 2; the Taylor series of exp(r) is exact to 1e-16 after 13 terms.
double exp_of_negative(double x) {
  if (!(x > -700.0)) return 0.0;
  constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;
  const double n = std::nearbyint(x * 1.4426950408889634);
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double sum = 1.0;
  for (int term = 13; term > 0; --term) sum = 1.0 + sum * r / term;
  return std::ldexp(sum, static_cast<int>(n));
}

float without_nan(float logit) {
  return std::isnan(logit) ? -std::numeric_limits<float>::infinity() : logit;
}

/// In two passes, which compilers turn into vectors where one that remembers a place is a chain of
/// comparisons: vocabularies have up to a quarter of a million tokens.
Token most_likely(std::span<const float> logits) {
  constexpr std::size_t kLanes = 16;
  std::array<float, kLanes> lanes;
  lanes.fill(-std::numeric_limits<float>::infinity());
  const auto keep = [](float& most, float logit) { most = logit > most ? logit : most; };  // no NaN
  std::size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes)
    for (std::size_t lane = 0; lane < kLanes; ++lane) keep(lanes[lane], logits[i + lane]);
  for (; i < logits.size(); ++i) keep(lanes[0], logits[i]);
  const float most = *std::ranges::max_element(lanes);
  const auto first = std::ranges::find(logits, most);
  return first == logits.end() ? 0 : static_cast<Token>(first - logits.begin());
}

}  // namespace

Token Sampler::sample(std::span<const float> logits) {
  assert(!logits.empty());
  if (!(options_.temperature > 0)) return most_likely(logits);
  keep_top_k(logits);
  if (!std::isfinite(candidates_.front().logit)) return candidates_.front().token;
  keep_top_p();

  const double best = candidates_.front().logit;
  double total = 0;
  for (Candidate& candidate : candidates_) {
    candidate.weight = exp_of_negative((candidate.logit - best) / options_.temperature);
    total += candidate.weight;
  }
  // 53 random bits: uniform in [0, total).
  double left = static_cast<double>(random_() >> 11) * 0x1p-53 * total;
  for (const Candidate& candidate : candidates_) {
    left -= candidate.weight;
    if (left < 0) return candidate.token;
  }
  return candidates_.front().token;  // rounding of the sum: as good as any
}

void Sampler::keep_top_k(std::span<const float> logits) {
  const std::size_t k = options_.top_k > 0
                            ? std::min(logits.size(), static_cast<std::size_t>(options_.top_k))
                            : logits.size();
  const auto more_likely = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  candidates_.clear();  // a heap of k with the least likely one in front
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const Candidate candidate{static_cast<Token>(i), without_nan(logits[i]), 0.0};
    if (candidates_.size() == k) {
      if (!more_likely(candidate, candidates_.front())) continue;
      std::ranges::pop_heap(candidates_, more_likely);
      candidates_.pop_back();
    }
    candidates_.push_back(candidate);
    std::ranges::push_heap(candidates_, more_likely);
  }
  std::ranges::sort_heap(candidates_, more_likely);
}

void Sampler::keep_top_p() {
  if (!(options_.top_p < 1)) return;
  double total = 0;
  for (Candidate& candidate : candidates_) {
    candidate.weight =
        exp_of_negative(static_cast<double>(candidate.logit) - candidates_.front().logit);
    total += candidate.weight;
  }
  double sum = 0;
  std::size_t kept = 0;
  do sum += candidates_[kept++].weight;
  while (kept < candidates_.size() && sum < options_.top_p * total);
  candidates_.resize(kept);
}

}  // namespace kquant
