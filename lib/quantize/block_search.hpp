#pragma once
// The scales of one or more whole blocks, for any format with a description.
//
//   1. every sub-block: the scale and min it would like, as real numbers      (scale_search.hpp)
//   2. the block: the d (and dmin) under which these fall nearest to integers; for the best few,
//      rounded to binary16 as they will be stored, every sub-block tries the integers around what
//      it would like and keeps the pair with the least true error; d and dmin are then fitted again
//      to the codes so found, as long as that helps
//   3. where it is asked for, d and dmin raised by what least squares make them too small
//
// A format without sub-block scales (Q4_0 …) is one whose only integer scale is 1.

#include "scale_search.hpp"

namespace kquant::detail {

/// The outcome of a search, lane by lane.
template <class V>
struct Found {
  V scale, min;       ///< the integers
  V d, dmin;          ///< as they will be read back
  V down;             ///< to block units, in which are:
  V offset, inverse;  ///< dmin * min, and 1 / (d * scale), of the least error

  /// The codes of weights x, as they are multiplied (q - kZero).
  template <class F>
  KQ_HOST_DEVICE V codes(V x) const {
    return nearest<F>(in_block_units(x, down), offset, inverse);
  }
};

template <class F, class V>
class BlockSearch {
 public:
  using Mask = typename V::Mask;
  using Sub = SubBlocks<F, V>;

  KQ_HOST_DEVICE explicit BlockSearch(const SearchPlan& plan) : plan_(plan) {}

  /// x: kWeightsAtOnce floats. The outcome is found(); false, and none, where one of x is a NaN or
  /// an infinity.
  KQ_HOST_DEVICE bool search(const float* x, const Importances<F, V>& importances) {
    if (!sub_.load(x, importances)) return false;
    fit_ = ScaleSearch<F, V>::fit(sub_, plan_);
    best_ = Choice{};
    if constexpr (kDirectScale<F>) {
      consider({fit_.affine.scale, -fit_.affine.min});
    } else {
      guess();
    }
    for (int round = 0; round < plan_.rounds; ++round)
      if (!consider(refitted()).any()) break;
    if constexpr (kDirectScale<F>) nudge();
    return true;
  }

  KQ_HOST_DEVICE Found<V> found() const {
    const auto& [super, scale, min, error] = best_;
    const Super kept = plan_.unbiased ? unbiased() : super;
    return {.scale = scale,
            .min = min,
            .d = kept.d * sub_.up(),
            .dmin = kept.dmin * sub_.up(),
            .down = sub_.down(),
            .offset = kHasMin ? super.dmin * min : V::zero(),
            .inverse = inverse_of(super.d * scale)};
  }

 private:
  static constexpr bool kHasMin = F::kHasMin;

  /// d and dmin in block units, exactly as they will be read back; the same in all lanes of a
  /// block.
  struct Super {
    V d = V::zero(), dmin = V::zero();
    KQ_HOST_DEVICE friend Super select(Mask m, const Super& x, const Super& y) {
      return {select(m, x.d, y.d), select(m, x.dmin, y.dmin)};
    }
  };
  struct Choice {
    Super super;
    V scale = V::zero(), min = V::zero();  ///< the integers
    V error = V::all(3e38f);               ///< of the block
    KQ_HOST_DEVICE friend Choice select(Mask m, const Choice& x, const Choice& y) {
      return {select(m, x.super, y.super), select(m, x.scale, y.scale), select(m, x.min, y.min),
              select(m, x.error, y.error)};
    }
  };

  // ---- the best few d and dmin ----

  // Near its best fit the error of a sub-block grows with the square of the distance in scale and
  // min, so that whole ranges of d can be judged from the fits alone. Tried: the largest scale
  // stored as an integer somewhat below, at, or half a step beyond the top of the range.

  static constexpr int kMostGuesses = 8;
  struct Guesses {
    V unit[kMostGuesses], cost[kMostGuesses];
  };

  /// Costs of storing target as a multiple of a unit, over units for the largest of a block.
  KQ_HOST_DEVICE void guess_unit(V target, V weight, Range range, int count,
                                 Guesses& guesses) const {
    constexpr float kHalfStep = 0.5f;
    for (int n = 0; n < count; ++n) guesses.unit[n] = V::zero(), guesses.cost[n] = V::all(3e38f);
    const V extreme = extreme_of_block<F>(target);
    const V share = ratio(target, extreme);
    const int tops[] = {range.high, range.low};
    for (const int top : tops) {
      if (top == 0) continue;
      for (int i = -plan_.below; i <= plan_.beyond; ++i) {
        const float by = kHalfStep * static_cast<float>(top > 0 ? i : -i);
        const float code = static_cast<float>(top) + by;
        V unit = (1 / code) * extreme;
        const V off = code * share - round_even(clamp(code * share, range));
        V cost = (unit * unit) * sum_of_block<F>(weight * (off * off));
        for (int n = 0; n < count; ++n) {  // insert
          const Mask less = cost < guesses.cost[n];
          const V old_cost = guesses.cost[n], old_unit = guesses.unit[n];
          guesses.cost[n] = select(less, cost, old_cost);
          guesses.unit[n] = select(less, unit, old_unit);
          cost = select(less, old_cost, cost);
          unit = select(less, old_unit, unit);
        }
      }
    }
  }

  KQ_HOST_DEVICE void guess() {
    Guesses ds;
    guess_unit(fit_.affine.scale, fit_.spread, kScales<F>, plan_.guesses, ds);
    for (int n = 0; n < plan_.guesses; ++n) {
      const V d = ds.unit[n];
      if constexpr (kHasMin) {
        const V scale = d * round_even(clamp(ratio(fit_.affine.scale, d), kScales<F>));
        Guesses dmins;
        guess_unit(turned_min(scale), sub_.sum_w(), kMins<F>, plan_.min_guesses, dmins);
        for (int m = 0; m < plan_.min_guesses; ++m) consider({d, dmins.unit[m]});
      } else {
        consider({d, V::zero()});
      }
    }
  }

  /// The min a sub-block would like beside another scale: its fit turns about its mean code.
  KQ_HOST_DEVICE V turned_min(V scale) const {
    const V min = fit_.affine.min + (scale - fit_.affine.scale) * fit_.mean_code;
    return kDirectScale<F> ? min : larger(min, V::zero());
  }

  // ---- integers under a d and dmin ----

  /// The best integer scales and mins under a d and dmin, by true error.
  KQ_HOST_DEVICE Choice choose(const Super& super) const {
    Choice choice;
    choice.super = super;
    V error = V::all(3e38f);
    const auto each_min = [&](V scale_int) {
      const V scale = super.d * scale_int;
      const auto attempt = [&](V min_int) {
        const V found = sub_.error({scale, kHasMin ? super.dmin * min_int : V::zero()});
        const Mask better = found < error;
        error = select(better, found, error);
        choice.scale = select(better, scale_int, choice.scale);
        choice.min = select(better, min_int, choice.min);
      };
      constexpr Range kRange = kMins<F>;
      if constexpr (kRange.low == kRange.high) {
        attempt(V::all(static_cast<float>(kRange.low)));
      } else {
        const V below = round_down(clamp(ratio(turned_min(scale), super.dmin), kRange));
        for (int i = -plan_.min_window; i <= plan_.min_window + 1; ++i)
          attempt(clamp(below + V::all(static_cast<float>(i)), kRange));
      }
    };
    if constexpr (kDirectScale<F>) {
      each_min(V::all(static_cast<float>(kScales<F>.low)));
    } else {
      const V below = round_down(clamp(ratio(fit_.affine.scale, super.d), kScales<F>));
      for (int i = -plan_.window; i <= plan_.window + 1; ++i)
        each_min(clamp(below + V::all(static_cast<float>(i)), kScales<F>));
    }
    choice.error = sum_of_block<F>(error);
    return choice;
  }

  /// The best d and dmin for the codes of the best choice: the least
  /// sum w (r - by scale c + min_by min)^2 over by and min_by.
  KQ_HOST_DEVICE Super refitted() const {
    const Super& at = best_.super;
    const V scale = best_.scale, min = best_.min;
    const Residues<V> p = sub_.residues({at.d * scale, kHasMin ? at.dmin * min : V::zero()});
    const V dd = sum_of_block<F>(scale * (scale * p.wcc)), dr = sum_of_block<F>(scale * p.wrc);
    V by = ratio(dr, dd);
    if constexpr (!kHasMin) {
      return {at.d + by, V::zero()};
    } else {
      const V dm = sum_of_block<F>(scale * (min * p.wc)), mr = sum_of_block<F>(min * p.wr);
      const V mm = sum_of_block<F>(min * (min * sub_.sum_w()));
      const V det = dd * mm - dm * dm;
      const Mask both = 1e-6f * (dd * mm) < det;
      by = select(both, (mm * dr - dm * mr) / det, by);
      const V min_by = select(both, (dm * dr - dd * mr) / det, ratio(dm * by - mr, mm));
      const V dmin = at.dmin + min_by;
      return {at.d + by, kDirectScale<F> ? dmin : larger(dmin, V::zero())};
    }
  }

  /// d and dmin of the best choice, raised until its block is as long as it was: the error of the
  /// best fit is at right angles to it, so that what it leaves of sum w x x is short by the error.
  KQ_HOST_DEVICE Super unbiased() const {
    const Super& at = best_.super;
    const Products<V> p =
        sub_.products({at.d * best_.scale, kHasMin ? at.dmin * best_.min : V::zero()});
    const V whole = sum_of_block<F>(p.whole), missing = sum_of_block<F>(p.missing);
    const Mask most = 2.0f * missing < whole;  // else hardly anything of the block is left
    const V by = select(most, whole / (whole - missing), V::all(1));
    return {stored(by * at.d, 0), kHasMin ? stored(by * at.dmin, 0) : V::zero()};
  }

  /// Which blocks this is the best so far of.
  KQ_HOST_DEVICE Mask consider(const Super& wish) {
    const Choice choice = choose({stored(wish.d, 0), kHasMin ? stored(wish.dmin, 0) : V::zero()});
    const Mask better = choice.error < best_.error;
    best_ = select(better, choice, best_);
    return better;
  }

  /// d times the largest code and the min often have to cancel (many zeros, one outlier): which way
  /// each of the two is rounded then matters more than how closely.
  KQ_HOST_DEVICE void nudge() {
    for (int round = 0; round < plan_.rounds; ++round) {
      const Super from = best_.super;
      bool better = false;
      for (int i = -1; i <= 1; ++i)
        for (int k = kHasMin ? -1 : 0; k <= (kHasMin ? 1 : 0); ++k)
          if (i != 0 || k != 0)
            better |=
                consider({stored(from.d, i), kHasMin ? stored(from.dmin, k) : V::zero()}).any();
      if (!better) return;
    }
  }

  /// As it will be read back: the nearest binary16 of the row's units, or so many steps beside it.
  KQ_HOST_DEVICE V stored(V d, int steps) const {
    const V half = (d * sub_.up()).template once_a_block<kSubs<F>>([steps](float x) {
      return half_beside(nearest_half(x), steps);
    });
    return half * sub_.down();
  }

  KQ_HOST_DEVICE static V clamp(V v, Range range) {
    return smaller(larger(v, V::all(static_cast<float>(range.low))),
                   V::all(static_cast<float>(range.high)));
  }

  SearchPlan plan_;
  Sub sub_;
  Fit<V> fit_;
  Choice best_;
};

}  // namespace kquant::detail
