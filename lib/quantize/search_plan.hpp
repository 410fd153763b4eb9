#pragma once
// How many starts, guesses and integers a search tries.

#include "kquant/quantize.hpp"
#include "ranges.hpp"

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
  bool unbiased = false;  ///< see QuantizeOptions
};

/// weighted: with an imatrix, where errors have more to gain and the reference encoders take
/// longer.
//
// Chosen by measurement (docs/quantizer.md): `best` is where twice the time gains a thousandth,
// `fast` where five times the reference encoder's speed is kept.
template <class F>
KQ_INLINE constexpr SearchPlan plan_of(Effort effort, bool weighted) {
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

}  // namespace kquant::detail
