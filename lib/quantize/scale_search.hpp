#pragma once
// The scale and min that each of sixteen sub-blocks would like, as real numbers: the best of many
// starts, then the two steps of sub_blocks.hpp in turn until the error stays.

#include "search_plan.hpp"
#include "sub_blocks.hpp"

namespace kquant::detail {

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
  KQ_HOST_DEVICE static void starts(const Sub& sub, const SearchPlan& plan,
                                    Consider& consider_start) {
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
  KQ_HOST_DEVICE static void starts_with_min(const Sub& sub, const SearchPlan& plan,
                                             Consider& consider) {
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
