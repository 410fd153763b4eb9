#include "eval/scores.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

using namespace kquant;

namespace {
const std::vector<double> kP{0.5, 0.25, 0.125, 0.125}, kQ{0.1, 0.2, 0.3, 0.4};

std::vector<float> logits_of(const std::vector<double>& probabilities, double shift) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p) + shift));
  return logits;
}
}  // namespace

TEST_CASE("scores of one position are those of the definition") {
  const auto p = logits_of(kP, 3.0), q = logits_of(kQ, -40.0);
  double kl = 0;
  for (std::size_t i = 0; i < kP.size(); ++i) kl += kP[i] * std::log(kP[i] / kQ[i]);
  const Comparison c = compare(q, p, 2);
  CHECK(c.kl == Approx(kl).epsilon(1e-5));
  CHECK(c.nll == Approx(-std::log(0.3)).epsilon(1e-5));
  CHECK(c.reference_nll == Approx(-std::log(0.125)).epsilon(1e-5));
  CHECK_FALSE(c.same_top);
  CHECK(compare(p, p, 1).same_top);
  CHECK(negative_log_likelihood(q, 2) == c.nll);
  // Far beyond what exp can hold.
  const std::vector<float> steep{1e4f, -1e4f, 0.0f};
  CHECK(negative_log_likelihood(steep, 1) == 2e4);
}

TEST_CASE("estimates are means with their standard errors") {
  const std::vector<double> values{1, 2, 3, 6};
  const Estimate mean = mean_of(values);
  CHECK(mean.mean == 3);
  CHECK(mean.error == Approx(std::sqrt((4 + 1 + 0 + 9) / 3.0 / 4.0)));
  CHECK(mean_of(std::span(values).first(1)).error == 0);
  const Estimate root = root_of({4, 0.4});
  CHECK(root.mean == 2);
  CHECK(root.error == Approx(0.1));
  CHECK(root_of({0, 0}).error == 0);
}

TEST_CASE("a divergence sums up its positions") {
  std::vector<Comparison> scores;
  for (int i = 0; i <= 1000; ++i) {
    const int shuffled = i * 8 % 1001;
    scores.push_back({.nll = std::log(2.0),
                      .reference_nll = std::log(4.0),
                      .kl = shuffled / 1000.0,
                      .same_top = shuffled < 250});
  }
  const Divergence d = summarize(scores);
  CHECK(d.kl.mean == Approx(0.5));
  CHECK(d.kl_median == Approx(0.5));
  CHECK(d.kl_p90 == Approx(0.9));
  CHECK(d.kl_p95 == Approx(0.95));
  CHECK(d.kl_p99 == Approx(0.99));
  CHECK(d.kl_p999 == Approx(0.999));
  CHECK(d.kl_max == 1);
  CHECK(d.same_top.mean == Approx(250.0 / 1001));
  CHECK(d.same_top.error == Approx(std::sqrt(d.same_top.mean * (1 - d.same_top.mean) / 1000)));
  CHECK(d.rms_probability.mean == Approx(0.25));
  CHECK(d.log_ratio.mean == Approx(-std::log(2.0)));
  CHECK(d.reference_perplexity == Approx(4));
}
