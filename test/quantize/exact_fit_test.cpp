// The bound against which the quantizer is measured, and the quantizer against the bound.

#include "bench/exact_fit.hpp"

#include "lib/quantize/ranges.hpp"
#include "weights.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

/// Every assignment of codes there is.
double by_brute_force(std::span<const float> x, std::span<const float> w, int low, int high,
                      bool with_min, bool free_min) {
  const int levels = high - low + 1;
  double best = 1e300;
  std::vector<int> digits(x.size());
  for (;;) {
    bench::exact::Sums sums;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double v = w[i], c = low + digits[i];
      sums.w += v;
      sums.x += v * x[i];
      sums.xx += v * x[i] * x[i];
      sums.c += v * c;
      sums.cc += v * c * c;
      sums.xc += v * x[i] * c;
    }
    // A negative scale with mins is a code assignment upside down: not one of the format's.
    const bool forwards = !with_min || sums.xc * sums.w >= sums.x * sums.c;
    if (forwards)
      best = std::min(best, with_min ? sums.error_with_min(free_min) : sums.error_without_min());
    std::size_t at = 0;
    while (at < digits.size() && ++digits[at] == levels) digits[at++] = 0;
    if (at == digits.size()) return best;
  }
}

}  // namespace

TEST_CASE("the least error of a sub-block is that of the best of all codes there are") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    auto x = random_weights(6, 1.0f, seed);
    auto w = random_weights(6, 1.0f, seed + 100);
    for (float& v : w) v = v * v + 0.01f;
    if (seed % 4 == 0) x[3] = x[1];
    if (seed % 5 == 0) x[0] = 0;
    if (seed % 3 == 0)
      for (float& v : x) v += 1.5f;  // all of one sign
    INFO("seed " << seed);
    CHECK(bench::least_error(x, w, -2, 1) ==
          Approx(by_brute_force(x, w, -2, 1, false, false)).margin(1e-9));
    CHECK(bench::least_error(x, w, -4, 3) ==
          Approx(by_brute_force(x, w, -4, 3, false, false)).margin(1e-9));
    for (const bool free_min : {false, true})
      CHECK(bench::least_error_with_min(x, w, 3, free_min) ==
            Approx(by_brute_force(x, w, 0, 3, true, free_min)).margin(1e-9));
  }
}

TEST_CASE("the quantizer is never better than the bound, and near it") {
  const auto x = random_weights(4 * 256, 0.02f);
  const std::vector<float> ones(256, 1.0f);
  WeightFormats::for_each([&]<class F>() {
    if (F::kBits > 4) return;  // takes seconds
    INFO(F::name);
    double bound = 0;
    for (std::size_t at = 0; at < x.size(); at += F::kSub) {
      const auto sub = std::span(x).subspan(at, F::kSub);
      const auto w = std::span(ones).first(F::kSub);
      bound +=
          F::kHasMin
              ? bench::least_error_with_min(sub, w, detail::kCodes<F>.high, detail::kDirectScale<F>)
              : bench::least_error(sub, w, detail::kCodes<F>.low, detail::kCodes<F>.high);
    }
    const double ours = error_of(F::type, x, 256).error;
    CHECK(ours >= 0.999999 * bound);
    CHECK(ours <= 1.1 * bound);
  });
}
