#pragma once
// The scale and min that each of sixteen sub-blocks would like, as real numbers: the best of many
// starts, then the two steps of sub_blocks.hpp in turn until the error stays.

#include "kquant/quantize.hpp"
#include "sub_blocks.hpp"

namespace kquant::detail {

/// Where to look, and how long.
struct SearchPlan {
  // Starts lay the ends of the codes at, beyond or inside the ends of the data, by from … to times
  // step codes. Many codes: E is a rugged function of the scale and it pays to try many; few codes:
  // ends far inside would cut off what matters most.
  int from, to;
  float step;
  bool both_ways;  ///< one code more on one side matters where codes are few: try both
  int refinements;
  // The block (block_search.hpp): how many d, and for each how many dmin, are tried; from how many
  // half steps below the top of its range to how many beyond it the largest scale may be stored;
  // how many integers beyond the two around its wish a sub-block tries for scale and for min; how
  // often d and dmin are fitted anew.
  int guesses, min_guesses, below, beyond, window, min_window, rounds;
};

/// weighted: with an imatrix, where errors have more to gain and the reference encoders take
/// longer.
//
// Chosen by measurement (docs/quantizer.md): `best` is where twice the time gains a thousandth,
// `fast` where five times the reference encoder's speed is kept.
template <class F>
constexpr SearchPlan plan_of(Effort effort, bool weighted) {
  constexpr bool kFine = F::kBits >= 6, kDirect = kDirectScale<F>;
  if (effort == Effort::kBest) {
    SearchPlan p{.from = -4,
                 .to = 4,
                 .step = 0.25f,
                 .both_ways = true,
                 .refinements = 8,
                 .guesses = 4,
                 .min_guesses = 1,
                 .below = 12,
                 .beyond = 2,
                 .window = 3,
                 .min_window = 1,
                 .rounds = 4};
    // With mins, stretching the codes beyond the data asks for larger mins, which the other
    // sub-blocks pay for: only where there are none.
    if (F::kHasMin) p.from = kDirect ? -3 : -1, p.to = 3;
    if (F::kHasMin && F::kBits == 2) p.window = 1, p.min_guesses = 2;
    if (!F::kHasMin && !kFine) p.window = 2;
    if (!F::kHasMin && F::kBits == 3 && !weighted)
      p.from = -3, p.to = 3, p.window = 1, p.guesses = 3;
    if (!F::kHasMin && kDirect && !kFine && weighted) p.to = 8;
    if (kFine) p.from = -8, p.to = 8, p.step = 1, p.both_ways = false, p.window = 6;
    return p;
  }
  SearchPlan p{.from = -4,
               .to = 4,
               .step = 0.5f,
               .both_ways = true,
               .refinements = 8,
               .guesses = 1,
               .min_guesses = 1,
               .below = 4,
               .beyond = 2,
               .window = 0,
               .min_window = 0,
               .rounds = 1};
  if (F::kHasMin) p.from = -1, p.to = weighted ? 3 : 1, p.guesses = weighted ? 2 : 1, p.rounds = 3;
  if (kFine) p.step = 1, p.both_ways = false, p.below = 2;
  if (!F::kHasMin && F::kBits == 3 && !weighted)
    p.from = p.to = p.refinements = p.below = p.beyond = p.rounds = 0;
  return p;
}

template <class F, class V>
class ScaleSearch {
 public:
  using Sub = SubBlocks<F, V>;

  KQ_HOST_DEVICE static Fit<V> fit(const Sub& sub, const SearchPlan& plan) {
    constexpr bool kExact = F::kBits >= 8;
    const Fit<V> quick = fit_by<kExact>(sub, plan);
    const auto unsure = sub.needs_exact(quick.error);
    return kExact || !unsure.any() ? quick : select(unsure, fit_by<true>(sub, plan), quick);
  }

 private:
  template <bool kExact>
  KQ_HOST_DEVICE static Fit<V> fit_by(const Sub& sub, const SearchPlan& plan) {
    const auto fit = [&](const Affine<V>& a) {
      if constexpr (kExact)
        return sub.fit_exactly(a);
      else
        return sub.fit(a);
    };
    Affine<V> best = {V::zero(), V::zero()};
    V error = V::all(3e38f);
    // A scale that is better by no more than rounding noise would be chosen by chance, differently
    // in every sub-block of a constant row; the first of equals is taken instead.
    const auto consider = [&](const Affine<V>& start) {
      const Fit<V> found = fit(start);
      const auto better = found.error + sub.tie() < error;
      best = select(better, found.affine, best);
      error = select(better, found.error, error);
    };
    F::kHasMin ? starts_with_min(sub, plan, consider) : starts(sub, plan, consider);
    Fit<V> at = fit(best);
    for (int i = 0; i < plan.refinements; ++i) {
      const auto better = at.error < error;
      if (!better.any()) break;
      best = select(better, at.affine, best);
      error = select(better, at.error, error);
      at = fit(best);
    }
    return {best, error, at.mean_code, at.spread};
  }

  template <class Consider>
  KQ_HOST_DEVICE static void starts(const Sub& sub, const SearchPlan& plan, Consider& consider_start) {
    const V extreme = select(sub.high() < -sub.low(), sub.low(), sub.high());
    const auto consider = [&](float code) { consider_start({(1 / code) * extreme, V::zero()}); };
    consider(Sub::kLow);
    for (int i = plan.from; i <= plan.to; ++i) {
      const float by = plan.step * static_cast<float>(i);
      if (i != 0) consider(Sub::kLow - by);
      if (plan.both_ways) consider(Sub::kHigh + by);
    }
  }

  template <class Consider>
  KQ_HOST_DEVICE static void starts_with_min(const Sub& sub, const SearchPlan& plan, Consider& consider) {
    constexpr float kPerCode = 1 / Sub::kHigh;
    const V zero = V::zero();
    const V floor = Sub::kFreeMin ? sub.low() : smaller(sub.low(), zero);
    const V range = larger(sub.high() - floor, zero);
    const V step = (plan.step * kPerCode) * range;
    for (int bottom = plan.from; bottom <= plan.to; ++bottom)
      for (int top = plan.from; top <= plan.to; ++top) {
        V low = floor + static_cast<float>(bottom) * step;
        if (!Sub::kFreeMin) low = smaller(low, zero);
        const V high = larger(floor + range - static_cast<float>(top) * step, low);
        consider({kPerCode * (high - low), -low});
      }
    // Weights that were quantized before need not use all codes.
    for (int unused = 1; unused <= 4 && unused < kCodes<F>.high; ++unused)
      consider({(1 / (Sub::kHigh - static_cast<float>(unused))) * range, -floor});
    consider({zero, -floor});
  }
};

}  // namespace kquant::detail
