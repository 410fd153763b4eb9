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

/// kWeightsAtOnce numbers in the order of a row, so that number i of sub-block j is at [i][j].
/// By fours: a square of four floats by four is turned in registers.
template <class F>
KQ_INLINE void to_lanes(const float* in, float (*out)[kLanes]) {
  using Quad = Register<4>::Floats;
  for (int j = 0; j < kLanes; j += 4)
    for (int i = 0; i < F::kSub; i += 4) {
      Quad r[4];
      for (int k = 0; k < 4; ++k) std::memcpy(&r[k], in + (j + k) * F::kSub + i, sizeof r[k]);
      const Quad a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
      const Quad b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
      const Quad c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
      const Quad d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
      const Quad turned[4] = {
          __builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
          __builtin_shufflevector(c, d, 0, 1, 4, 5), __builtin_shufflevector(c, d, 2, 3, 6, 7)};
      for (int k = 0; k < 4; ++k) std::memcpy(out[i + k] + j, &turned[k], sizeof turned[k]);
    }
}

/// One number from those of the sub-blocks of each block, in all its lanes, in a fixed tree.
template <class F, int W, class Join>
KQ_INLINE Lanes<W> over_block(Lanes<W> x, Join join) {
  if constexpr (kSubs < F >> 1) {
    static_assert(kSubs<F> == 8 || kSubs<F> == 16);
    using Quad = Register<4>::Floats;
    Quad q[4];
    std::memcpy(q, x.at, sizeof q);
    for (int i = 0; i < 4; i += 2) {
      q[i] = join(q[i], q[i + 1]);
      q[i] = join(q[i], __builtin_shufflevector(q[i], q[i], 2, 3, 0, 1));
      q[i] = join(q[i], __builtin_shufflevector(q[i], q[i], 1, 0, 3, 2));
    }
    if constexpr (kSubs<F> == 16) q[0] = q[2] = join(q[0], q[2]);
    q[1] = q[0];
    q[3] = q[2];
    std::memcpy(x.at, q, sizeof q);
  }
  return x;
}
template <class F, int W>
KQ_INLINE Lanes<W> sum_of_block(Lanes<W> x) {
  return over_block<F>(x, [](auto a, auto b) { return a + b; });
}
template <class F, int W>
KQ_INLINE Lanes<W> largest_of_block(Lanes<W> x) {
  return over_block<F>(x, [](auto a, auto b) { return Register<4>::larger(a, b); });
}
/// The one of largest magnitude, sign and all.
template <class F, int W>
KQ_INLINE Lanes<W> extreme_of_block(Lanes<W> x) {
  const Lanes<W> most = largest_of_block<F>(x), least = -largest_of_block<F>(-x);
  return select(most < -least, least, most);
}

template <int W>
struct Affine {
  Lanes<W> scale, min;
  KQ_INLINE friend Affine select(typename Lanes<W>::Mask m, const Affine& x, const Affine& y) {
    return {select(m, x.scale, y.scale), select(m, x.min, y.min)};
  }
};

/// What the nearest codes c under a scale and min leave: the error, and the sums (r = what is left
/// of x) from which a better d and dmin for these codes follow. Sums of what is left lose no digits
/// where a sub-block is a small ripple on a large offset.
template <int W>
struct Residues {
  Lanes<W> error, wr, wrc, wc, wcc;
};

/// The best scale and min for some codes, and what is known of them.
template <int W>
struct Fit {
  Affine<W> affine;
  Lanes<W> error;
  Lanes<W> mean_code;  ///< sum w c / sum w; 0 without mins
  Lanes<W> spread;     ///< sum w (c - mean_code)^2: how fast the error grows beside the best scale
  KQ_INLINE friend Fit select(typename Lanes<W>::Mask m, const Fit& x, const Fit& y) {
    return {select(m, x.affine, y.affine), select(m, x.error, y.error),
            select(m, x.mean_code, y.mean_code), select(m, x.spread, y.spread)};
  }
};

/// Importances of the columns of sixteen sub-blocks: positive, of mean about 1 in a block.
template <class F, int W>
struct Importances {
  alignas(64) float w[F::kSub][kLanes];
  Lanes<W> sum;

  /// in: kWeightsAtOnce of them; nullptr for all alike. Each gets `floor` times its block's mean
  /// beside its own (QuantizeOptions::importance_floor).
  void set(const float* in, float floor) {
    alignas(64) float even[kWeightsAtOnce<F>];
    for (int at = 0; at < kWeightsAtOnce<F>; at += F::kBlock) {
      double of_block = 0;
      if (in)
        for (int i = 0; i < F::kBlock; ++i) of_block += double{in[at + i]};
      const double per_mean = of_block > 0 ? F::kBlock / of_block : 0.0;
      for (int i = 0; i < F::kBlock; ++i)
        even[at + i] =
            of_block > 0 ? static_cast<float>(double{in[at + i]} * per_mean) + floor : 1.0f;
    }
    to_lanes<F>(even, w);
    sum = Lanes<W>::zero();
    for (int i = 0; i < F::kSub; ++i) sum = sum + Lanes<W>::load(w[i]);
  }
};

template <class F, int W>
class SubBlocks {
 public:
  using V = Lanes<W>;
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
  bool load(const float* x, const Importances<F, W>& importances) {
    to_lanes<F>(x, x_);
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
    up_ = select(
        nothing, V::all(1),
        power_of_two_below(smaller(larger(largest, V::all(0x1p-40f)), V::all(kBlockUnitLimit))));
    down_ = V::all(1) / up_;
    const V limit = V::all(kBlockUnitLimit);
    V sum_wx = V::zero();
    high_ = V::all(-kBlockUnitLimit);
    low_ = limit;
    for (int i = 0; i < F::kSub; ++i) {
      const V xi =
          select(nothing, V::zero(), smaller(larger(V::load(x_[i]), -limit), limit) * down_);
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

  V low() const { return low_; }
  V high() const { return high_; }
  V sum_w() const { return sum_w_; }
  /// Errors this close are equal: rounding noise of the sums.
  V tie() const { return 2e-7f * power_; }
  /// Where an error is too small for fit() to tell from another.
  Mask needs_exact(V error) const { return error < 20.0f * tie(); }
  /// From block units to the row's and back: powers of two.
  V up() const { return up_; }
  V down() const { return down_; }

  /// The best scale and min for the codes that are nearest under another scale and min. The error
  /// is a difference of sums of squares, good to about 1e-7 of them: see fit_exactly.
  //
  // With x and c both measured from their weighted means the best scale is
  // sum w x c / sum w c^2, and the error sum w x^2 - scale * sum w x c.
  Fit<W> fit(const Affine<W>& a) const {
    const V inverse = inverse_of(a.scale);
    V wxc = V::zero(), wc = V::zero(), wcc = V::zero();
    for (int i = 0; i < F::kSub; ++i) {
      const V c = nearest<F>(V::load(x_[i]), a.min, inverse);
      const V w_c = V::load(w_[i]) * c;
      wxc = wxc + V::load(wx_[i]) * c;
      wcc = wcc + w_c * c;
      if constexpr (F::kHasMin) wc = wc + w_c;
    }
    Fit<W> fit;
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
  Fit<W> fit_exactly(const Affine<W>& a) const {
    const Residues<W> s = residues(a);
    Fit<W> fit;
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
  V error(const Affine<W>& a) const {
    const V inverse = inverse_of(a.scale);
    V sum = V::zero();
    for (int i = 0; i < F::kSub; ++i) {
      const V x = V::load(x_[i]);
      const V r = left_of(x, a, nearest<F>(x, a.min, inverse));
      sum = sum + (V::load(w_[i]) * r) * r;
    }
    return sum;
  }

  Residues<W> residues(const Affine<W>& a) const {
    const V inverse = inverse_of(a.scale);
    Residues<W> sums = {V::zero(), V::zero(), V::zero(), V::zero(), V::zero()};
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
  KQ_INLINE static V left_of(V x, const Affine<W>& a, V c) {
    return F::kHasMin ? x - (a.scale * c - a.min) : x - a.scale * c;
  }

  alignas(64) float x_[F::kSub][kLanes];   ///< in block units
  alignas(64) float wx_[F::kSub][kLanes];  ///< w (x - mean)
  const float (*w_)[kLanes];
  V sum_w_, mean_, power_, low_, high_, up_, down_;
};

}  // namespace kquant::detail
