#pragma once
// The scale and min of one sub-block, as real numbers.
//
// A sub-block of weights x with importances w is stored as codes c, and read back as
// scale * c - min. Sought is the least  E = sum w (x - (scale * c - min))^2.  For given codes the
// best scale and min are a weighted least-squares fit; for a given scale and min the best codes are
// the nearest ones. Either step can only lower E, so the two alternate from several starts.

#include <cmath>

#include "ranges.hpp"
#include "rounding.hpp"

namespace kquant::detail {

struct Affine {
  float scale = 0, min = 0;
};

/// What one pass over a sub-block gives: the error of the nearest codes, and the sums from which
/// the best scale and min for these codes follow.
struct Pass {
  float error = 0, wc = 0, wcc = 0, wcx = 0;
};

/// Where that many codes are about to be looked for: see SubBlock::fit.
struct Fit {
  Affine affine;
  Pass pass;
};

template <class F>
class SubBlock {
 public:
  static constexpr int kLow = kCodes<F>.low, kHigh = kCodes<F>.high;
  static constexpr bool kFreeMin = kDirectScale<F>;  ///< the min may be negative

  /// x, w: F::kSub floats each, which must outlive this object; sum of w > 0.
  SubBlock(const float* x, const float* w) : x_(x), w_(w) {
    Lanes sum_w = Lanes::all(0), sum_wx = Lanes::all(0);
    low_ = high_ = x[0];
    for (int i = 0; i < F::kSub; i += Lanes::kWidth) {
      sum_w = sum_w + Lanes::load(w + i);
      sum_wx = sum_wx + Lanes::load(w + i) * Lanes::load(x + i);
    }
    for (int i = 1; i < F::kSub; ++i) {
      low_ = x[i] < low_ ? x[i] : low_;
      high_ = x[i] > high_ ? x[i] : high_;
    }
    sum_w_ = sum_w.sum();
    sum_wx_ = sum_wx.sum();
  }

  float sum_w() const { return sum_w_; }
  float sum_wx() const { return sum_wx_; }

  /// The nearest codes under a scale and min.
  Pass pass(Affine a) const {
    const Lanes scale = Lanes::all(a.scale), min = Lanes::all(a.min);
    const Lanes inverse = Lanes::all(inverse_of(a.scale));
    Lanes error = Lanes::all(0), wc = error, wcc = error, wcx = error;
    for (int i = 0; i < F::kSub; i += Lanes::kWidth) {
      const Lanes x = Lanes::load(x_ + i), w = Lanes::load(w_ + i);
      const Lanes c = nearest(x, min, inverse);
      const Lanes off = F::kHasMin ? x - (scale * c - min) : x - scale * c;
      const Lanes times = w * c;
      error = error + w * off * off;
      if constexpr (F::kHasMin) wc = wc + times;
      wcc = wcc + times * c;
      wcx = wcx + times * x;
    }
    return {error.sum(), wc.sum(), wcc.sum(), wcx.sum()};
  }

  /// Those codes themselves, F::kSub of them.
  void codes(Affine a, float* out) const {
    const Lanes min = Lanes::all(a.min), inverse = Lanes::all(inverse_of(a.scale));
    for (int i = 0; i < F::kSub; i += Lanes::kWidth)
      nearest(Lanes::load(x_ + i), min, inverse).store(out + i);
  }

  /// The scale and min that fit a pass's codes best.
  Affine solve(const Pass& p) const {
    if constexpr (!F::kHasMin) return {p.wcc > 0 ? p.wcx / p.wcc : 0, 0};
    const double w = sum_w_, wx = sum_wx_, wc = p.wc, wcc = p.wcc, wcx = p.wcx;
    const double det = w * wcc - wc * wc;
    double scale = det > 1e-6 * w * wcc ? (w * wcx - wc * wx) / det : 0;
    if (scale < 0) scale = 0;
    double min = (scale * wc - wx) / w;
    if (!kFreeMin && min < 0) {
      min = 0;
      scale = wcc > 0 && wcx > 0 ? wcx / wcc : 0;
    }
    return {static_cast<float>(scale), static_cast<float>(min)};
  }

  /// Alternates the two steps until the error stays.
  Fit refine(Affine start, int rounds) const {
    Fit best{start, pass(start)};
    for (int i = 0; i < rounds; ++i) {
      const Affine next = solve(best.pass);
      const Pass pass_next = pass(next);
      if (!(pass_next.error < best.pass.error)) break;
      best = {next, pass_next};
    }
    return best;
  }

  Fit fit() const {
    Fit best{{}, pass({})};
    const auto consider = [&](Affine start) {
      const Fit found = refine(start, 1);
      if (found.pass.error < best.pass.error) best = found;
    };
    if constexpr (F::kHasMin) {
      const float floor = kFreeMin ? low_ : (low_ < 0 ? low_ : 0.0f);
      if (high_ > floor) {
        const float step = (high_ - floor) / static_cast<float>(kHigh);
        for (int bottom = -1; bottom <= kShrinks; ++bottom)
          for (int top = -1; top <= kShrinks; ++top) {
            const float lo = floor + step * kShrink * static_cast<float>(bottom);
            const float hi = high_ - step * kShrink * static_cast<float>(top);
            if (!kFreeMin && lo > 0) continue;
            consider({(hi - lo) / static_cast<float>(kHigh), -lo});
          }
      }
      consider({0, low_ < 0 || kFreeMin ? -low_ : 0.0f});
    } else {
      const float extreme = -low_ > high_ ? low_ : high_;
      for (int i = -kShrinks; i <= kShrinks; ++i) {
        const float shift = kShrink * static_cast<float>(i);
        consider({extreme / (static_cast<float>(kLow) + shift), 0});
        if constexpr (kLow != -kHigh) consider({extreme / (static_cast<float>(kHigh) + shift), 0});
      }
    }
    return refine(best.affine, 8);
  }

 private:
  static constexpr float kShrink = 0.25f;
  static constexpr int kShrinks = F::kHasMin ? 3 : 5;

  KQ_INLINE static float inverse_of(float scale) {
    return std::fabs(scale) > 0x1p-100f ? 1.0f / scale : 0.0f;
  }
  KQ_INLINE static Lanes nearest(Lanes x, Lanes min, Lanes inverse) {
    const Lanes c = F::kHasMin ? (x + min) * inverse : x * inverse;
    const Lanes low = Lanes::all(static_cast<float>(kLow));
    const Lanes high = Lanes::all(static_cast<float>(kHigh));
    return round_even(smaller(larger(c, low), high));
  }

  const float* x_;
  const float* w_;
  float sum_w_, sum_wx_, low_, high_;
};

}  // namespace kquant::detail
