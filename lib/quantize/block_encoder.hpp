#pragma once
// One block of weights to one packed block, for any format with a description.
//
//   1. every sub-block: the scale and min it would like, as real numbers      (scale_search.hpp)
//   2. the block: a few d (and dmin), rounded to binary16 as they will be stored; under each, every
//      sub-block tries the integer scales and mins around what it would like and keeps the pair
//      with the least true error; then d and dmin are fitted again to the codes so found
//   3. the best of all these is packed
//
// A format without sub-block scales (Q4_0 …) is one whose only integer scale is 1.

#include <cstring>

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
    typename F::Block block{};
    if (!zero_) search();
    pack(block);
    return block;
  }

 private:
  static constexpr int kN = kSubs<F>;

  /// d and dmin in block units (see load), exactly as they will be read back.
  struct Super {
    float d = 0, dmin = 0;
  };
  struct Choice {
    Super super;
    int scale[kN] = {}, min[kN] = {};
    double error = 0;
    Super next;  ///< the best d and dmin for the codes that belong to this choice
  };

  // Block units: x is divided by the power of two of its largest magnitude, so that squares neither
  // overflow nor vanish; this changes no digit. No format reaches 2^29 = 65504 * 128 * 64 ..., so
  // larger values are cut there; below 2^-40 nothing is left of a block in any format.
  void load(const float* x) {
    float largest = 0;
    for (int i = 0; i < F::kBlock; ++i) {
      const float a = std::fabs(x[i]);
      largest = a > largest ? a : largest;
    }
    int e = largest > 0 ? exponent_of(largest) : 0;
    e = e < -40 ? -40 : e > 29 ? 29 : e;
    up_ = power_of_two(e);
    down_ = power_of_two(-e);
    constexpr float kLimit = 0x1p29f;
    for (int i = 0; i < F::kBlock; ++i) {
      const float clipped = x[i] > kLimit ? kLimit : x[i] < -kLimit ? -kLimit : x[i];
      x_[i] = clipped * down_;
    }
    zero_ = !(largest > 0x1p-40f);
  }

  void load_importance(const float* importance) {
    float largest = 0;
    if (importance)
      for (int i = 0; i < F::kBlock; ++i)
        largest = importance[i] > largest ? importance[i] : largest;
    if (!(largest > 0)) {
      for (float& w : w_) w = 1;
      return;
    }
    // To the same magnitude for every block. The addend is below the last digit of ordinary
    // importances; it gives weights without importance something to be fitted by.
    const int e = exponent_of(largest);
    const float down = power_of_two(e > 0 ? -(e / 2) : (-e) / 2);
    const float down_rest = power_of_two(e > 0 ? -(e - e / 2) : -e - (-e) / 2);
    for (int i = 0; i < F::kBlock; ++i) w_[i] = importance[i] * down * down_rest + 0x1p-40f;
  }

  float stored(float d) const { return nearest_half(d * up_) * down_; }
  Super stored(Super s) const { return {stored(s.d), F::kHasMin ? stored(s.dmin) : 0.0f}; }

  SubBlock<F> sub(int j) const { return {x_ + j * F::kSub, w_ + j * F::kSub}; }

  static Affine affine(Super s, int scale, int min) {
    return {s.d * static_cast<float>(scale), F::kHasMin ? s.dmin * static_cast<float>(min) : 0.0f};
  }

  void search() {
    for (int j = 0; j < kN; ++j) fits_[j] = sub(j).fit();
    if constexpr (kDirectScale<F>) {
      const Affine a = fits_[0].affine;
      best_ = choose(stored(Super{a.scale, -a.min}));
      improve(best_.next);
    } else {
      // Relative to its sign, the largest scale is stored as the integer of largest magnitude.
      constexpr int kTop = -kScales<F>.low > kScales<F>.high ? kScales<F>.low : kScales<F>.high;
      float largest = 0, largest_min = 0;
      for (const Fit& fit : fits_) {
        if (std::fabs(fit.affine.scale) > std::fabs(largest)) largest = fit.affine.scale;
        if (fit.affine.min > largest_min) largest_min = fit.affine.min;
      }
      const Super start{largest / static_cast<float>(kTop),
                        F::kHasMin ? largest_min / static_cast<float>(kMins<F>.high) : 0.0f};
      best_ = choose(stored(start));
      improve(best_.next);
    }
  }

  /// From a start, as long as it helps.
  void improve(Super start) {
    for (int round = 0; round < 4; ++round) {
      const Choice next = choose(stored(start));
      if (!(next.error < best_.error)) return;
      best_ = next;
      start = next.next;
    }
  }

  static int clamp(float v, Range range) {
    const float low = static_cast<float>(range.low), high = static_cast<float>(range.high);
    return static_cast<int>(v > low ? (v < high ? v : high) : low);
  }

  /// Integer scales and mins under a d and dmin, by true error.
  Choice choose(Super super) const {
    Choice choice;
    choice.super = super;
    const float per_d = super.d != 0 ? 1.0f / super.d : 0.0f;
    const float per_dmin = super.dmin != 0 ? 1.0f / super.dmin : 0.0f;
    // Normal equations of d and dmin.
    double dd = 0, dm = 0, mm = 0, dx = 0, mx = 0;
    for (int j = 0; j < kN; ++j) {
      const SubBlock<F> s = sub(j);
      const Fit& fit = fits_[j];
      Pass best;
      bool first = true;
      const int scale0 = clamp(std::floor(fit.affine.scale * per_d), kScales<F>);
      for (int scale = scale0; scale <= scale0 + 1 && scale <= kScales<F>.high; ++scale) {
        int min0 = kMins<F>.low;
        if constexpr (F::kHasMin) {
          // Another scale turns the fit about its mean code.
          const float moved = super.d * static_cast<float>(scale) - fit.affine.scale;
          const float min = fit.affine.min + moved * (fit.pass.wc / s.sum_w());
          min0 = clamp(std::floor(min * per_dmin), kMins<F>);
        }
        for (int min = min0; min <= min0 + 1 && min <= kMins<F>.high; ++min) {
          const Pass pass = s.pass(affine(super, scale, min));
          if (!first && !(pass.error < best.error)) continue;
          first = false;
          best = pass;
          choice.scale[j] = scale;
          choice.min[j] = min;
        }
      }
      const double scale = choice.scale[j], min = choice.min[j];
      choice.error += best.error;
      dd += scale * scale * best.wcc;
      dx += scale * best.wcx;
      if constexpr (F::kHasMin) {
        dm += scale * min * best.wc;
        mm += min * min * s.sum_w();
        mx += min * s.sum_wx();
      }
    }
    // Minimises sum w (x - d scale c + dmin min)^2.
    double d = dd > 0 ? dx / dd : 0, dmin = 0;
    if constexpr (F::kHasMin) {
      const double det = dd * mm - dm * dm;
      if (det > 1e-9 * dd * mm) {
        d = (mm * dx - dm * mx) / det;
        dmin = (dm * dx - dd * mx) / det;
      } else if (mm > 0) {
        d = super.d;
        dmin = (d * dm - mx) / mm;
      }
    }
    choice.next = {static_cast<float>(d), static_cast<float>(dmin)};
    return choice;
  }

  void pack(typename F::Block& block) const {
    ScaleWords<kN> words{};
    for (int j = 0; j < kN; ++j) {
      words.set_scale(j, best_.scale[j]);
      words.set_min(j, best_.min[j]);
    }
    F::pack_scales(words, block);
    F::set_d(block, best_.super.d * up_, best_.super.dmin * up_);
    float codes[F::kBlock];
    for (int j = 0; j < kN; ++j)
      sub(j).codes(affine(best_.super, best_.scale[j], best_.min[j]), codes + j * F::kSub);
    std::uint8_t* bytes = bytes_of<F>(block);
    for (int g = 0; g < kRuns<F>; ++g)
      for (int i = 0; i < F::kRun; ++i)
        put_code<F>(bytes, g, i, static_cast<int>(codes[g * F::kRun + i]) + F::kZero);
  }

  alignas(32) float x_[F::kBlock];
  alignas(32) float w_[F::kBlock];
  float up_ = 1, down_ = 1;
  bool zero_ = false;
  Fit fits_[kN];
  Choice best_;
};

/// Activations (and sums beside the codes) are rounded plainly: d = max |x| / 127.
template <class F>
typename F::Block encode_activations(const float* x) {
  typename F::Block block{};
  float largest = 0;
  for (int i = 0; i < F::kBlock; ++i) {
    const float a = std::fabs(x[i]);
    largest = a > largest ? a : largest;
  }
  constexpr float kTop = static_cast<float>(kCodes<F>.high);
  constexpr bool kHalf = requires {
    requires std::same_as<decltype(block.d), Half>;
  };
  const float exact = largest / kTop;
  const float d = kHalf ? nearest_half(exact) : exact;
  int sum = 0;
  for (int g = 0; g < kRuns<F>; ++g)
    for (int i = 0; i < F::kRun; ++i) {
      const int weight = g * F::kRun + i;
      const float c = d > 0 ? x[weight] / d : 0.0f;
      const int q = static_cast<int>(round_even(c > kTop ? kTop : c < -kTop ? -kTop : c));
      put_code<F>(bytes_of<F>(block), g, i, q);
      sum += q;
      if constexpr (requires { block.sums; })
        block.sums[weight / 16] = static_cast<std::int16_t>(block.sums[weight / 16] + q);
    }
  F::set_d(block, d, 0);
  if constexpr (requires { block.s; }) {
    const float s = d * static_cast<float>(sum);
    block.s = to_half(s > kHalfMax ? kHalfMax : s < -kHalfMax ? -kHalfMax : s);
  }
  return block;
}

}  // namespace kquant::detail
