#include "kquant/eval/statistics.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

using namespace kquant;

TEST_CASE("McNemar's p is that of the binomial test, or of chi-squared for many pairs") {
  CHECK(mcnemar_p(0, 0) == 1);
  CHECK(mcnemar_p(5, 5) == 1);
  // scipy.stats.binomtest(min, n).pvalue
  CHECK(mcnemar_p(1, 9) == Approx(0.021484375).epsilon(1e-12));
  CHECK(mcnemar_p(9, 1) == Approx(0.021484375).epsilon(1e-12));
  CHECK(mcnemar_p(0, 6) == Approx(0.03125).epsilon(1e-12));
  CHECK(mcnemar_p(8, 15) == Approx(0.21003961563110352).epsilon(1e-12));
  CHECK(mcnemar_p(0, 1000) == Approx(std::exp2(-999.0)).epsilon(1e-12));
  // Beyond the exact test: chi-squared 121 of 1,002 pairs is (|b - c| - 1)^2 / n.
  const double chi = (102.0 - 1) * (102.0 - 1) / 1002;
  CHECK(mcnemar_p(450, 552) == Approx(std::erfc(std::sqrt(chi / 2))).epsilon(1e-12));
  // The two agree where they meet.
  CHECK(mcnemar_p(460, 540) == Approx(mcnemar_p(460, 541)).epsilon(0.1));
}

TEST_CASE("pass@k is the share of draws of k samples with a right one") {
  CHECK(pass_at_k(10, 0, 1) == 0);
  CHECK(pass_at_k(10, 10, 5) == 1);
  CHECK(pass_at_k(10, 3, 1) == Approx(0.3).epsilon(1e-12));
  CHECK(pass_at_k(10, 3, 5) == Approx(1 - 21.0 / 252).epsilon(1e-12));  // C(7,5) / C(10,5)
  CHECK(pass_at_k(10, 6, 5) == 1);                                      // fewer than 5 wrong ones
  CHECK(pass_at_k(200, 7, 100) == Approx(0.9929911172418123).epsilon(1e-12));
  CHECK(pass_at_k(0, 0, 1) == 0);
}

TEST_CASE("flips are counted in pairs") {
  const std::vector<double> before{1, 1, 1, 0, 0, 0.1, 1}, after{1, 0, 0, 1, 0, 0.1, 0.25};
  const PairedFlips flips = paired_flips(before, after);
  CHECK(flips.right_to_wrong == 3);
  CHECK(flips.wrong_to_right == 1);
  CHECK(flips.p == Approx(mcnemar_p(3, 1)));
}

TEST_CASE("a bootstrap interval of shares is that of the normal approximation") {
  std::vector<double> scores(2000);
  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = i % 10 < 3;
  const Interval interval = bootstrap_mean(scores, 0.95, 4000);
  const double error = std::sqrt(0.3 * 0.7 / 2000);
  CHECK(interval.low == Approx(0.3 - 1.95996 * error).margin(0.06 * error));
  CHECK(interval.high == Approx(0.3 + 1.95996 * error).margin(0.06 * error));

  const Interval again = bootstrap_mean(scores, 0.95, 4000),
                 other = bootstrap_mean(scores, 0.95, 4000, 2);
  CHECK(again.low == interval.low);
  CHECK(again.high == interval.high);
  CHECK((other.low != interval.low || other.high != interval.high));
  const Interval narrow = bootstrap_mean(scores, 0.5, 4000);
  CHECK(narrow.high - narrow.low == Approx(2 * 0.67449 * error).epsilon(0.1));

  const std::vector<double> same(50, 0.25);
  CHECK(bootstrap_mean(same).low == 0.25);
  CHECK(bootstrap_mean(same).high == 0.25);
  CHECK(bootstrap_mean({}).high == 0);
}
