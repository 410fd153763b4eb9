#pragma once
// The scale and min of one sub-block, as real numbers.
//
// A sub-block of weights x with importances w is stored as codes c, and read back as
// scale * c - min. Sought is the least  E = sum w (x - (scale * c - min))^2.  For given codes the
// best scale and min are a weighted least-squares fit; for a given scale and min the best codes are
// the nearest ones. Either step can only lower E, so the two alternate from the best of many
// starts.

#include <cmath>

#include "ranges.hpp"
#include "rounding.hpp"

namespace kquant::detail {

struct Affine {
  float scale = 0, min = 0;
};

/// What one pass over a sub-block gives: the error of the nearest codes c, and the sums (r = what
/// is left of x) from which a better scale and min for these codes follow. Sums of what is left
/// lose no digits where a sub-block is a small ripple on a large offset.
struct Pass {
  float error = 0, wr = 0, wrc = 0, wc = 0, wcc = 0;
};

/// A scale and min, and what comes of them.
struct Fit {
  Affine affine;
  Pass pass;
};

/// Where to look. Starts lay the ends of the codes at, beyond or inside the ends of the data, by
/// kFrom … kTo times kStep codes. Many codes: E is a rugged function of the scale and it pays to
/// try many; few codes: ends far inside would cut off what matters most.
template <class F>
struct SearchPlan {
  static constexpr bool kFine = F::kBits >= 6;
  static constexpr float kStep = kFine ? 1.0f : 0.25f;
  // With mins, stretching the codes beyond the data asks for larger mins, which the other
  // sub-blocks pay for: only where there are none.
  static constexpr int kFrom = F::kHasMin ? (kDirectScale<F> ? -3 : -1) : (kFine ? -8 : -4);
  static constexpr int kTo = F::kHasMin ? 3 : (kFine ? 8 : 4);
  /// One code more on one side matters where codes are few: try the data both ways round.
  static constexpr bool kBothWays = !kFine;
  static constexpr int kRefinements = 8;
};

template <class F>
class SubBlock {
 public:
  static constexpr float kLow = static_cast<float>(kCodes<F>.low);
  static constexpr float kHigh = static_cast<float>(kCodes<F>.high);
  static constexpr bool kFreeMin = kDirectScale<F>;  ///< the min may be negative

  /// x, w: F::kSub floats each, which must outlive this object; w > 0.
  SubBlock(const float* x, const float* w) : x_(x), w_(w) {
    Lanes sum_w = Lanes::all(0), power = sum_w;
    Lanes low = Lanes::load(x), high = low;
    for (int i = 0; i < F::kSub; i += Lanes::kWidth) {
      const Lanes wi = Lanes::load(w + i), xi = Lanes::load(x + i);
      sum_w = sum_w + wi;
      power = power + wi * xi * xi;
      low = smaller(low, xi);
      high = larger(high, xi);
    }
    sum_w_ = sum_w.sum();
    tie_ = 1e-7f * power.sum();
    low_ = low.smallest();
    high_ = high.largest();
  }

  float sum_w() const { return sum_w_; }

  /// The nearest codes under a scale and min.
  Pass pass(Affine a) const {
    const Lanes scale = Lanes::all(a.scale), min = Lanes::all(a.min);
    const Lanes inverse = Lanes::all(inverse_of(a.scale));
    Lanes error = Lanes::all(0), wr = error, wrc = error, wc = error, wcc = error;
    for (int i = 0; i < F::kSub; i += Lanes::kWidth) {
      const Lanes x = Lanes::load(x_ + i), w = Lanes::load(w_ + i);
      const Lanes c = nearest(x, min, inverse);
      const Lanes r = F::kHasMin ? x - (scale * c - min) : x - scale * c;
      const Lanes w_r = w * r, w_c = w * c;
      error = error + w_r * r;
      wrc = wrc + w_r * c;
      wcc = wcc + w_c * c;
      if constexpr (F::kHasMin) {
        wr = wr + w_r;
        wc = wc + w_c;
      }
    }
    return {error.sum(), wr.sum(), wrc.sum(), wc.sum(), wcc.sum()};
  }

  /// Those codes themselves, F::kSub of them.
  void codes(Affine a, float* out) const {
    const Lanes min = Lanes::all(a.min), inverse = Lanes::all(inverse_of(a.scale));
    for (int i = 0; i < F::kSub; i += Lanes::kWidth)
      nearest(Lanes::load(x_ + i), min, inverse).store(out + i);
  }

  /// The best fit found from all starts.
  Fit fit() const {
    Solution best{{}, 3e38f};
    // A scale that is better by no more than rounding noise would be chosen by chance, differently
    // in every sub-block of a constant row; the first of equals is taken instead.
    const auto consider = [&](Affine start) {
      const Solution s = solve({start, pass(start)});
      if (s.error + tie_ < best.error) best = s;
    };
    F::kHasMin ? each_start_with_min(consider) : each_start(consider);
    return refine(best.affine);
  }

 private:
  using Plan = SearchPlan<F>;

  struct Solution {
    Affine affine;
    float error;
  };

  template <class Fn>
  void each_start(Fn&& consider) const {
    const float extreme = -low_ > high_ ? low_ : high_;
    consider(Affine{extreme / kLow, 0});
    for (int i = Plan::kFrom; i <= Plan::kTo; ++i) {
      const float by = Plan::kStep * static_cast<float>(i);
      if (i != 0) consider(Affine{extreme / (kLow - by), 0});
      if (Plan::kBothWays) consider(Affine{extreme / (kHigh + by), 0});
    }
  }

  template <class Fn>
  void each_start_with_min(Fn&& consider) const {
    const float floor = kFreeMin || low_ < 0 ? low_ : 0.0f;
    if (high_ > floor) {
      const float step = Plan::kStep * ((high_ - floor) / kHigh);
      for (int bottom = Plan::kFrom; bottom <= Plan::kTo; ++bottom)
        for (int top = Plan::kFrom; top <= Plan::kTo; ++top) {
          const float low = floor + step * static_cast<float>(bottom);
          const float high = high_ - step * static_cast<float>(top);
          if (kFreeMin || low <= 0) consider(Affine{(high - low) / kHigh, -low});
        }
      // Weights that were quantized before need not use all codes.
      for (int unused = 1; unused <= 4 && unused < kCodes<F>.high; ++unused)
        consider(Affine{(high_ - floor) / (kHigh - static_cast<float>(unused)), -floor});
    }
    consider(Affine{0, -floor});
  }

  /// The scale and min that suit a pass's codes best, and the error they would have:
  /// sum w (r - by c + min_by)^2 at its least.
  Solution solve(const Fit& at) const {
    const Pass& p = at.pass;
    if constexpr (!F::kHasMin) {
      if (!(p.wcc > 0)) return {at.affine, p.error};
      const float by = p.wrc / p.wcc;
      return {{at.affine.scale + by, 0}, p.error - by * p.wrc};
    } else {
      const float det = sum_w_ * p.wcc - p.wc * p.wc;
      const bool spread = det > 1e-6f * (sum_w_ * p.wcc);  // else all codes are alike
      float by = spread ? (sum_w_ * p.wrc - p.wc * p.wr) / det : 0.0f;
      float min_by = (p.wc * by - p.wr) / sum_w_;
      if (!kFreeMin && at.affine.min + min_by < 0) {
        min_by = -at.affine.min;
        by = p.wcc > 0 ? (p.wrc + min_by * p.wc) / p.wcc : 0.0f;
      }
      if (at.affine.scale + by < 0) return {at.affine, p.error};
      const float change =
          by * (by * p.wcc - 2 * p.wrc) + min_by * (min_by * sum_w_ + 2 * p.wr - 2 * by * p.wc);
      return {{at.affine.scale + by, at.affine.min + min_by}, p.error + change};
    }
  }

  /// Alternates the two steps until the error stays.
  Fit refine(Affine start) const {
    Fit best{start, pass(start)};
    for (int i = 0; i < Plan::kRefinements; ++i) {
      const Affine next = solve(best).affine;
      const Fit found{next, pass(next)};
      if (!(found.pass.error < best.pass.error)) break;
      best = found;
    }
    return best;
  }

  KQ_INLINE static float inverse_of(float scale) {
    return std::fabs(scale) > 0x1p-100f ? 1.0f / scale : 0.0f;
  }
  KQ_INLINE static Lanes nearest(Lanes x, Lanes min, Lanes inverse) {
    const Lanes c = F::kHasMin ? (x + min) * inverse : x * inverse;
    return round_even(smaller(larger(c, Lanes::all(kLow)), Lanes::all(kHigh)));
  }

  const float* x_;
  const float* w_;
  float sum_w_, tie_, low_, high_;
};

}  // namespace kquant::detail
