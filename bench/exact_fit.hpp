#pragma once
// The least error that a sub-block can have at all, by exhaustive search: a bound for the
// quantizer.
//
// Weights x with importances w become codes c in low … high, read back as scale * c (- min), with
// scale and min any real numbers. For a scale 1 / u and a min v / u the best codes are
// c_i = round(u x_i + v), so that only the codes met somewhere in the half-plane u > 0 matter; and
// for those the best scale and min, and with them the least error, follow in closed form.
//
//   without min   v = 0: walk along u; a code changes at u = (c + 1/2) / x_i. All are tried.
//   with min      codes change on the lines u x_i + v = c + 1/2, which cut the half-plane into
//                 cells. Every cell but one borders on a line: walk along each line, and try the
//                 codes on both sides of it between any two crossings.
//
// A block's scales share a d and are integers, so that what the format can store is never better.

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

namespace kquant::bench {

namespace exact {

struct Event {
  double at;
  std::size_t weight;
  int step;
};

/// Sums over the codes, from which the best scale and min follow.
struct Sums {
  double w = 0, x = 0, xx = 0, c = 0, cc = 0, xc = 0;  ///< each times the importance

  void change(double weight, double value, double from, double to) {
    c += weight * (to - from);
    cc += weight * (to * to - from * from);
    xc += weight * value * (to - from);
  }
  double error_without_min() const { return cc > 0 ? xx - xc * xc / cc : xx; }
  /// free_min: it may be negative.
  double error_with_min(bool free_min) const {
    const double spread = cc - c * c / w, both = xc - x * c / w;
    const double scale = spread > 1e-12 * cc ? both / spread : 0;
    if (free_min || (scale * c - x) / w >= 0) return xx - x * x / w - scale * both;
    return error_without_min();
  }
};

}  // namespace exact

/// The least sum w (x - scale * c)^2, of either sign of the scale.
inline double least_error(std::span<const float> x, std::span<const float> w, int low, int high) {
  double power = 0, best = 0;
  for (std::size_t i = 0; i < x.size(); ++i) power += double{w[i]} * x[i] * x[i];
  best = power;
  for (const double sign : {1.0, -1.0}) {
    std::vector<exact::Event> events;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double v = sign * x[i];
      if (v == 0) continue;
      const int end = v > 0 ? high : -low;
      for (int c = 0; c < end; ++c) events.push_back({(c + 0.5) / std::fabs(v), i, v > 0 ? 1 : -1});
    }
    std::ranges::sort(events, {}, &exact::Event::at);
    std::vector<int> codes(x.size());
    exact::Sums sums;
    sums.xx = power;
    for (const exact::Event& e : events) {
      int& c = codes[e.weight];
      sums.change(w[e.weight], sign * x[e.weight], c, c + e.step);
      c += e.step;
      best = std::min(best, sums.error_without_min());
    }
  }
  return best;
}

/// The least sum w (x - (scale * c - min))^2 with 0 <= c <= high and, unless free_min, min >= 0.
inline double least_error_with_min(std::span<const float> x, std::span<const float> w, int high,
                                   bool free_min) {
  exact::Sums none;
  for (std::size_t i = 0; i < x.size(); ++i) {
    none.w += w[i];
    none.x += double{w[i]} * x[i];
    none.xx += double{w[i]} * x[i] * x[i];
  }
  double best = none.error_with_min(free_min);
  std::vector<exact::Event> events;
  std::vector<int> codes(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (std::find(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(i), x[i]) !=
        x.begin() + static_cast<std::ptrdiff_t>(i))
      continue;  // the same lines once more
    for (int c = 0; c < high; ++c) {
      // Along u x_i + v = c + 1/2; on its two sides x_i, and what equals it, has c or c + 1.
      events.clear();
      exact::Sums below = none, above = none;
      for (std::size_t j = 0; j < x.size(); ++j) {
        const double apart = double{x[j]} - x[i];
        codes[j] = apart > 0 ? c + 1 : c;
        below.change(w[j], x[j], 0, codes[j]);
        above.change(w[j], x[j], 0, apart == 0 ? c + 1 : codes[j]);
        const int steps = apart > 0 ? high - (c + 1) : apart < 0 ? c : 0;
        for (int k = 1; k <= steps; ++k)
          events.push_back({k / std::fabs(apart), j, apart > 0 ? 1 : -1});
      }
      std::ranges::sort(events, {}, &exact::Event::at);
      const auto consider = [&] {
        best = std::min({best, below.error_with_min(free_min), above.error_with_min(free_min)});
      };
      consider();
      for (const exact::Event& e : events) {
        int& code = codes[e.weight];
        for (exact::Sums* side : {&below, &above})
          side->change(w[e.weight], x[e.weight], code, code + e.step);
        code += e.step;
        consider();
      }
    }
  }
  return best;
}

}  // namespace kquant::bench
