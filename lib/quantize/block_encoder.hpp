#pragma once
// One block of weights to one packed block, for any format with a description.
//
//   1. every sub-block: the scale and min it would like, as real numbers      (scale_search.hpp)
//   2. the block: the d (and dmin) under which these fall nearest to integers; for the best few,
//      rounded to binary16 as they will be stored, every sub-block tries the integers around what
//      it would like and keeps the pair with the least true error; d and dmin are then fitted again
//      to the codes so found, as long as that helps
//   3. the best of all these is packed
//
// A format without sub-block scales (Q4_0 …) is one whose only integer scale is 1.

#include <utility>

#include "kquant/format/run.hpp"
#include "scale_search.hpp"

namespace kquant::detail {

template <class F>
class BlockEncoder {
 public:
  /// x, importance: F::kBlock finite floats; importance nullptr for all alike.
  BlockEncoder(const float* x, const float* importance) {
    load(x);
    load_importance(importance);
  }

  typename F::Block encode() {
    if (!zero_) search();
    return packed();
  }

 private:
  static constexpr int kN = kSubs<F>;
  static constexpr int kGuesses = 4, kMinGuesses = F::kHasMin ? 2 : 1, kRounds = 4;

  /// d and dmin in block units (see load), exactly as they will be read back.
  struct Super {
    float d = 0, dmin = 0;
  };
  struct Choice {
    Super super;
    int scale[kN] = {}, min[kN] = {};
    double error = 1e300;
    Super next;  ///< the best d and dmin for the codes that belong to this choice
  };

  /// The best N values of those offered.
  template <int N>
  struct Guesses {
    float value[N] = {}, cost[N];
    Guesses() {
      for (float& c : cost) c = 3e38f;
    }
    void offer(float v, float c) {
      for (const float have : value)
        if (v == have) return;
      for (int i = 0; i < N; ++i)
        if (c < cost[i]) {
          std::swap(c, cost[i]);
          std::swap(v, value[i]);
        }
    }
  };

  // Block units: x is divided by the power of two of its largest magnitude, so that squares neither
  // overflow nor vanish; this changes no digit. No format reaches 2^29 (65504 * 128 * 32 is less),
  // so larger values are cut there; below 2^-40 nothing is left of a block in any format.
  void load(const float* x) {
    float largest = 0;
    for (int i = 0; i < F::kBlock; ++i) {
      const float a = std::fabs(x[i]);
      largest = a > largest ? a : largest;
    }
    zero_ = !(largest > 0x1p-40f);
    const int e = zero_ ? 0 : exponent_of(largest) > 29 ? 29 : exponent_of(largest);
    up_ = power_of_two(e);
    down_ = power_of_two(-e);
    constexpr float kLimit = 0x1p29f;
    for (int i = 0; i < F::kBlock; ++i) {
      const float clipped = x[i] > kLimit ? kLimit : x[i] < -kLimit ? -kLimit : x[i];
      x_[i] = clipped * down_;
    }
  }

  // Importances are means over a calibration text that other texts will not follow exactly, so each
  // weight gets a quarter of the block's mean beside its own: the weighted error rises by a
  // thousandth or so, the plain one falls by several hundredths.
  void load_importance(const float* importance) {
    constexpr float kFloor = 0.25f;
    double sum = 0;
    if (importance)
      for (int i = 0; i < F::kBlock; ++i) sum += double{importance[i]};
    const double per_mean = sum > 0 ? F::kBlock / sum : 0.0;
    for (int i = 0; i < F::kBlock; ++i)
      w_[i] = (importance ? static_cast<float>(importance[i] * per_mean) : 0.0f) + kFloor;
  }

  SubBlock<F> sub(int j) const { return {x_ + j * F::kSub, w_ + j * F::kSub}; }

  float stored(float d) const { return nearest_half(d * up_) * down_; }
  Super stored(Super s) const { return {stored(s.d), F::kHasMin ? stored(s.dmin) : 0.0f}; }

  static Affine affine(Super s, int scale, int min) {
    return {s.d * static_cast<float>(scale), F::kHasMin ? s.dmin * static_cast<float>(min) : 0.0f};
  }

  static float clamp(float v, Range range) {
    const float low = static_cast<float>(range.low), high = static_cast<float>(range.high);
    return v > low ? (v < high ? v : high) : low;
  }
  static float divide(float a, float b) { return b != 0 ? a / b : 0.0f; }

  void search() {
    for (int j = 0; j < kN; ++j) fits_[j] = sub(j).fit();
    if constexpr (kDirectScale<F>) {
      consider({fits_[0].affine.scale, -fits_[0].affine.min});
    } else {
      const auto ds = guess_d();
      for (const float d : ds.value)
        if constexpr (F::kHasMin) {
          const auto dmins = guess_dmin(d);
          for (const float dmin : dmins.value) consider({d, dmin});
        } else {
          consider({d, 0});
        }
    }
    for (int round = 0; round < kRounds; ++round)
      if (!consider(best_.next)) break;
    if constexpr (kDirectScale<F>) nudge();
  }

  /// d times the largest code and the min often have to cancel (many zeros, one outlier): which way
  /// each of the two is rounded then matters more than how closely.
  void nudge() {
    for (int round = 0; round < kRounds; ++round) {
      const Super from = best_.super;
      bool better = false;
      for (int i = -1; i <= 1; ++i)
        for (int k = F::kHasMin ? -1 : 0; k <= (F::kHasMin ? 1 : 0); ++k)
          if (i != 0 || k != 0) better |= consider({beside(from.d, i), beside(from.dmin, k)});
      if (!better) return;
    }
  }
  float beside(float d, int steps) const { return half_beside(d * up_, steps) * down_; }

  /// True where this is the best so far.
  bool consider(Super super) {
    const Choice choice = choose(stored(super));
    if (!(choice.error < best_.error)) return false;
    best_ = choice;
    return true;
  }

  // Near its best fit the error of a sub-block grows with the square of the distance in scale and
  // min, so that whole ranges of d can be judged from the fits alone. Tried: the largest scale
  // stored as an integer somewhat below, at, or half a step beyond the top of the range.

  /// Costs of storing target[j] as a multiple of a unit, over units for the largest of them.
  template <int N>
  void guess(const float* target, const float* weight, Range range, Guesses<N>& guesses) const {
    constexpr int kBelow = 12, kBeyond = 2;
    constexpr float kHalfStep = 0.5f;
    float largest = 0;
    for (int j = 0; j < kN; ++j)
      if (std::fabs(target[j]) > std::fabs(largest)) largest = target[j];
    for (const int top : {range.high, range.low}) {
      if (top == 0) continue;
      for (int i = -kBelow; i <= kBeyond; ++i) {
        const float by = kHalfStep * static_cast<float>(top > 0 ? i : -i);
        const float unit = stored(largest / (static_cast<float>(top) + by));
        float cost = 0;
        for (int j = 0; j < kN; ++j) {
          const float off = target[j] - unit * round_even(clamp(divide(target[j], unit), range));
          cost += weight[j] * (off * off);
        }
        guesses.offer(unit, cost);
      }
    }
  }

  Guesses<kGuesses> guess_d() const {
    float scale[kN], weight[kN];
    for (int j = 0; j < kN; ++j) {
      const Pass& p = fits_[j].pass;
      scale[j] = fits_[j].affine.scale;
      // With the min following the scale, only the spread of the codes counts.
      weight[j] = F::kHasMin ? p.wcc - p.wc * (p.wc / sub(j).sum_w()) : p.wcc;
    }
    Guesses<kGuesses> guesses;
    guess(scale, weight, kScales<F>, guesses);
    return guesses;
  }

  Guesses<kMinGuesses> guess_dmin(float d) const {
    float min[kN], weight[kN];
    for (int j = 0; j < kN; ++j) {
      weight[j] = sub(j).sum_w();
      const float n = round_even(clamp(divide(fits_[j].affine.scale, d), kScales<F>));
      min[j] = turned_min(j, d * n, weight[j]);
    }
    Guesses<kMinGuesses> guesses;
    guess(min, weight, kMins<F>, guesses);
    return guesses;
  }

  /// The min sub-block j would like beside another scale: its fit turns about its mean code.
  float turned_min(int j, float scale, float sum_w) const {
    const Fit& fit = fits_[j];
    return fit.affine.min + (scale - fit.affine.scale) * (fit.pass.wc / sum_w);
  }

  /// The best integer scales and mins under a d and dmin, by true error.
  Choice choose(Super super) const {
    Choice choice;
    choice.super = super;
    choice.error = 0;
    // Normal equations of d and dmin: the least sum w (r - by scale c + min_by min)^2.
    double dd = 0, dm = 0, mm = 0, dr = 0, mr = 0;
    for (int j = 0; j < kN; ++j) {
      const SubBlock<F> s = sub(j);
      Pass best;
      best.error = 3e38f;
      const int scale0 = floor_of(fits_[j].affine.scale, super.d, kScales<F>);
      for (int scale = scale0; scale <= scale0 + 1 && scale <= kScales<F>.high; ++scale) {
        int min0 = kMins<F>.low;
        if constexpr (F::kHasMin) {
          const float min = turned_min(j, super.d * static_cast<float>(scale), s.sum_w());
          min0 = floor_of(min, super.dmin, kMins<F>);
        }
        for (int min = min0; min <= min0 + 1 && min <= kMins<F>.high; ++min) {
          const Pass pass = s.pass(affine(super, scale, min));
          if (!(pass.error < best.error)) continue;
          best = pass;
          choice.scale[j] = scale;
          choice.min[j] = min;
        }
      }
      const double scale = choice.scale[j], min = choice.min[j];
      choice.error += double{best.error};
      dd += scale * scale * double{best.wcc};
      dr += scale * double{best.wrc};
      dm += scale * min * double{best.wc};
      mm += min * min * double{s.sum_w()};
      mr += min * double{best.wr};
    }
    double by = dd > 0 ? dr / dd : 0, min_by = 0;
    if constexpr (F::kHasMin) {
      const double det = dd * mm - dm * dm;
      const bool both = det > 1e-9 * dd * mm;
      if (both) by = (mm * dr - dm * mr) / det;
      if (mm > 0) min_by = both ? (dm * dr - dd * mr) / det : (dm * by - mr) / mm;
    }
    choice.next = {super.d + static_cast<float>(by), super.dmin + static_cast<float>(min_by)};
    return choice;
  }

  static int floor_of(float x, float unit, Range range) {
    return static_cast<int>(clamp(std::floor(divide(x, unit)), range));
  }

  typename F::Block packed() const {
    typename F::Block block{};
    ScaleWords<kN> words{};
    float codes[F::kBlock];
    for (int j = 0; j < kN; ++j) {
      words.set_scale(j, best_.scale[j]);
      words.set_min(j, best_.min[j]);
      sub(j).codes(affine(best_.super, best_.scale[j], best_.min[j]), codes + j * F::kSub);
    }
    F::pack_scales(words, block);
    F::set_d(block, best_.super.d * up_, best_.super.dmin * up_);
    for (int g = 0; g < kRuns<F>; ++g)
      for (int i = 0; i < F::kRun; ++i)
        put_code<F>(bytes_of<F>(block), g, i, static_cast<int>(codes[g * F::kRun + i]) + F::kZero);
    return block;
  }

  alignas(32) float x_[F::kBlock];
  alignas(32) float w_[F::kBlock];
  float up_ = 1, down_ = 1;
  bool zero_ = false;
  Fit fits_[kN];
  Choice best_;
};

}  // namespace kquant::detail
