#pragma once
// Sixteen sub-blocks of weights, one a lane: what the search for scales asks of them.
//
// A sub-block of weights x with importances w is stored as codes c and read back as
// scale * c - min. Sought is the least  E = sum w (x - (scale * c - min))^2.  For a given scale and
// min the best codes are the nearest ones; for given codes the best scale and min are a weighted
// least-squares fit. Either can only lower E.
//
//            lane   0          1                    15
//     x[0]        | sub 0    | sub 1    |  ...    | sub 15   |   first weight of each
//     x[1]        | sub 0    | sub 1    |  ...    | sub 15   |   second
//     ...                                                        kSub rows
//
// 16 sub-blocks are one block of Q2_K, Q3_K, Q6_K, two of Q4_K, Q5_K, sixteen of Q4_0 ...

#include "block_scales.hpp"

namespace kquant::detail {

/// Blocks that share the lanes, neighbours in a row.
template <class F>
inline constexpr int kBlocksAtOnce = kLanes / kSubs<F>;
/// Weights in them: 256 or 512.
template <class F>
inline constexpr int kWeightsAtOnce = kLanes* F::kSub;

template <class F, class V>
KQ_INLINE V sum_of_block(V x) {
  return x.template sum_of_block<kSubs<F>>();
}
template <class F, class V>
KQ_INLINE V largest_of_block(V x) {
  return x.template largest_of_block<kSubs<F>>();
}
/// The one of largest magnitude, sign and all.
template <class F, class V>
KQ_INLINE V extreme_of_block(V x) {
  const V most = largest_of_block<F>(x), least = -largest_of_block<F>(-x);
  return select(most < -least, least, most);
}

template <class V>
struct Affine {
  V scale, min;
  KQ_INLINE friend Affine select(typename V::Mask m, const Affine& x, const Affine& y) {
    return {select(m, x.scale, y.scale), select(m, x.min, y.min)};
  }
};

/// What the nearest codes c under a scale and min leave: the error, and the sums (r = what is left
/// of x) from which a better d and dmin for these codes follow. Sums of what is left lose no digits
/// where a sub-block is a small ripple on a large offset.
template <class V>
struct Residues {
  V error, wr, wrc, wc, wcc;
};

/// Of a sub-block with itself, and what of it is missing where one of the two is as it is stored.
template <class V>
struct Products {
  V whole, missing;
};

/// The best scale and min for some codes, and what is known of them.
template <class V>
struct Fit {
  Affine<V> affine;
  V error;
  V mean_code;  ///< sum w c / sum w; 0 without mins
  V spread;     ///< sum w (c - mean_code)^2: how fast the error grows beside the best scale
  KQ_INLINE friend Fit select(typename V::Mask m, const Fit& x, const Fit& y) {
    return {select(m, x.affine, y.affine), select(m, x.error, y.error),
            select(m, x.mean_code, y.mean_code), select(m, x.spread, y.spread)};
  }
};

/// Importances of a block's columns, or nullptr for all alike, to such of mean 1, each with `floor`
/// added (QuantizeOptions::importance_floor). F::kBlock each.
template <class F>
KQ_INLINE void even_out(const float* importance, float floor, float* even) {
  double of_block = 0;
  if (importance)
    for (int i = 0; i < F::kBlock; ++i) of_block += double{importance[i]};
  const double per_mean = of_block > 0 ? F::kBlock / of_block : 0.0;
  for (int i = 0; i < F::kBlock; ++i)
    even[i] = of_block > 0 ? static_cast<float>(double{importance[i]} * per_mean) + floor : 1.0f;
}

/// Importances of the columns of sixteen sub-blocks: positive, of mean about 1 in a block.
template <class F, class V>
struct Importances {
  alignas(V) float w[F::kSub][V::kHeld];
  V sum;

  /// even: kWeightsAtOnce, as even_out() leaves them.
  KQ_HOST_DEVICE void set(const float* even) {
    V::template turn<F::kSub>(even, w);
    sum = V::zero();
    for (int i = 0; i < F::kSub; ++i) sum = sum + V::load(w[i]);
  }
};

template <class F, class V>
class SubBlocks {
 public:
  using Mask = typename V::Mask;
  static constexpr float kLow = static_cast<float>(kCodes<F>.low);
  static constexpr float kHigh = static_cast<float>(kCodes<F>.high);
  static constexpr bool kFreeMin = kDirectScale<F>;  ///< the min may be negative

  /// x: kWeightsAtOnce floats. importances must outlive this object's use. False, and nothing
  /// loaded, where one of x is a NaN or an infinity.
  //
  // Block units: x is divided by the power of two of its block's largest magnitude, so that squares
  // neither overflow nor vanish; this changes no digit. Below 2^-40 nothing is left of a block in
  // any format.
  KQ_HOST_DEVICE bool load(const float* x, const Importances<F, V>& importances) {
    V::template turn<F::kSub>(x, x_);
    w_ = importances.w;
    sum_w_ = importances.sum;
    V largest = V::zero(), nought = V::zero();
    for (int i = 0; i < F::kSub; ++i) {
      const V xi = V::load(x_[i]);
      largest = larger(largest, magnitude(xi));
      nought = nought + (xi - xi);  // NaN from a NaN or an infinity on
    }
    if ((nought != nought).any()) return false;
    largest = largest_of_block<F>(largest);
    const Mask nothing = largest < V::all(0x1p-40f);
    up_ =
        select(nothing, V::all(1),
               exponent_alone(smaller(larger(largest, V::all(0x1p-40f)), V::all(kBlockUnitLimit))));
    down_ = V::all(1) / up_;
    V sum_wx = V::zero();
    high_ = V::all(-kBlockUnitLimit);
    low_ = V::all(kBlockUnitLimit);
    for (int i = 0; i < F::kSub; ++i) {
      const V xi = select(nothing, V::zero(), in_block_units(V::load(x_[i]), down_));
      xi.store(x_[i]);
      sum_wx = sum_wx + V::load(w_[i]) * xi;
      low_ = smaller(low_, xi);
      high_ = larger(high_, xi);
    }
    mean_ = F::kHasMin ? sum_wx / sum_w_ : V::zero();
    power_ = V::zero();
    for (int i = 0; i < F::kSub; ++i) {
      const V centred = F::kHasMin ? V::load(x_[i]) - mean_ : V::load(x_[i]);
      const V wx = V::load(w_[i]) * centred;
      wx.store(wx_[i]);
      power_ = power_ + wx * centred;
    }
    return true;
  }

  KQ_HOST_DEVICE V low() const { return low_; }
  KQ_HOST_DEVICE V high() const { return high_; }
  KQ_HOST_DEVICE V sum_w() const { return sum_w_; }
  /// Errors this close are equal: rounding noise of the sums.
  KQ_HOST_DEVICE V tie() const { return 2e-7f * power_; }
  /// Where an error is too small for fit() to tell from another.
  KQ_HOST_DEVICE Mask needs_exact(V error) const { return error < 20.0f * tie(); }
  /// From block units to the row's and back: powers of two.
  KQ_HOST_DEVICE V up() const { return up_; }
  KQ_HOST_DEVICE V down() const { return down_; }

  /// The best scale and min for the codes that are nearest under another scale and min. The error
  /// is a difference of sums of squares, good to about 1e-7 of them: see fit_exactly.
  //
  // With x and c both measured from their weighted means the best scale is
  // sum w x c / sum w c^2, and the error sum w x^2 - scale * sum w x c.
  KQ_HOST_DEVICE Fit<V> fit(const Affine<V>& a) const {
    const V inverse = inverse_of(a.scale);
    V wxc = V::zero(), wc = V::zero(), wcc = V::zero();
    for (int i = 0; i < F::kSub; ++i) {
      const V c = nearest<F>(V::load(x_[i]), a.min, inverse);
      const V w_c = V::load(w_[i]) * c;
      wxc = wxc + V::load(wx_[i]) * c;
      wcc = wcc + w_c * c;
      if constexpr (F::kHasMin) wc = wc + w_c;
    }
    Fit<V> fit;
    if constexpr (!F::kHasMin) {
      fit.affine = {ratio(wxc, wcc), V::zero()};
      fit.mean_code = V::zero();
      fit.spread = wcc;
      fit.error = power_ - fit.affine.scale * wxc;
    } else {
      fit.mean_code = wc / sum_w_;
      fit.spread = wcc - fit.mean_code * wc;
      V scale = select(1e-6f * wcc < fit.spread, wxc / fit.spread, V::zero());  // else all alike
      scale = larger(scale, V::zero());
      V min = scale * fit.mean_code - mean_;
      fit.error = power_ - scale * wxc;
      if constexpr (!kFreeMin) {  // the best with no min at all
        const auto negative = min < V::zero();
        const V from_zero = wxc + mean_ * wc;
        const V alone = ratio(from_zero, wcc);
        const V error = power_ + mean_ * (mean_ * sum_w_) - alone * from_zero;
        scale = select(negative, alone, scale);
        min = select(negative, V::zero(), min);
        fit.error = select(negative, error, fit.error);
      }
      fit.affine = {scale, min};
    }
    return fit;
  }

  /// The same from what the codes leave, for sub-blocks that can be stored almost as they are
  /// (because they were quantized before, say), and for codes of 8 bits; half as fast.
  //
  // The least sum w (r - by c + min_by)^2 over by and min_by.
  KQ_HOST_DEVICE Fit<V> fit_exactly(const Affine<V>& a) const {
    const Residues<V> s = residues(a);
    Fit<V> fit;
    if constexpr (!F::kHasMin) {
      const V by = ratio(s.wrc, s.wcc);
      fit.affine = {a.scale + by, V::zero()};
      fit.error = s.error - by * s.wrc;
      fit.mean_code = V::zero();
      fit.spread = s.wcc;
    } else {
      fit.mean_code = s.wc / sum_w_;
      fit.spread = s.wcc - fit.mean_code * s.wc;
      const auto spread = 1e-6f * s.wcc < fit.spread;  // else all codes are alike
      V by = select(spread, (s.wrc - fit.mean_code * s.wr) / fit.spread, V::zero());
      by = larger(by, -a.scale);
      V min_by = fit.mean_code * by - s.wr / sum_w_;
      if constexpr (!kFreeMin) {
        const auto negative = a.min + min_by < V::zero();
        min_by = select(negative, -a.min, min_by);
        by = select(negative, ratio(s.wrc + min_by * s.wc, s.wcc), by);
      }
      fit.affine = {a.scale + by, a.min + min_by};
      fit.error = s.error + by * (by * s.wcc - 2.0f * s.wrc) +
                  min_by * (min_by * sum_w_ + 2.0f * s.wr - 2.0f * (by * s.wc));
    }
    return fit;
  }

  /// The error alone of the nearest codes under a scale and min.
  KQ_HOST_DEVICE V error(const Affine<V>& a) const {
    const V inverse = inverse_of(a.scale);
    V sum = V::zero();
    for (int i = 0; i < F::kSub; ++i) {
      const V x = V::load(x_[i]);
      const V r = left_of(x, a, nearest<F>(x, a.min, inverse));
      sum = sum + (V::load(w_[i]) * r) * r;
    }
    return sum;
  }

  /// Sum w x x, and what a scale and min leave out of it: sum w x (x - x').
  KQ_HOST_DEVICE Products<V> products(const Affine<V>& a) const {
    const V inverse = inverse_of(a.scale);
    Products<V> sums = {V::zero(), V::zero()};
    for (int i = 0; i < F::kSub; ++i) {
      const V x = V::load(x_[i]);
      const V w_x = V::load(w_[i]) * x;
      sums.whole = sums.whole + w_x * x;
      sums.missing = sums.missing + w_x * left_of(x, a, nearest<F>(x, a.min, inverse));
    }
    return sums;
  }

  KQ_HOST_DEVICE Residues<V> residues(const Affine<V>& a) const {
    const V inverse = inverse_of(a.scale);
    Residues<V> sums = {V::zero(), V::zero(), V::zero(), V::zero(), V::zero()};
    for (int i = 0; i < F::kSub; ++i) {
      const V x = V::load(x_[i]), w = V::load(w_[i]);
      const V c = nearest<F>(x, a.min, inverse);
      const V r = left_of(x, a, c);
      const V w_r = w * r, w_c = w * c;
      sums.error = sums.error + w_r * r;
      sums.wrc = sums.wrc + w_r * c;
      sums.wcc = sums.wcc + w_c * c;
      if constexpr (F::kHasMin) {
        sums.wr = sums.wr + w_r;
        sums.wc = sums.wc + w_c;
      }
    }
    return sums;
  }

 private:
  KQ_INLINE static V left_of(V x, const Affine<V>& a, V c) {
    return F::kHasMin ? x - (a.scale * c - a.min) : x - a.scale * c;
  }

  alignas(V) float x_[F::kSub][V::kHeld];   ///< in block units
  alignas(V) float wx_[F::kSub][V::kHeld];  ///< w (x - mean)
  const float (*w_)[V::kHeld];
  V sum_w_, mean_, power_, low_, high_, up_, down_;
};

}  // namespace kquant::detail
