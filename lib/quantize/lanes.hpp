#pragma once
// What the search is written in: sixteen lanes, each with a sub-block of weights.
//
// Every lane computes on its own, in one written order, without fused multiply-add: whatever holds
// it, whatever the compiler and the optimisation level, a lane's result is the same, and so are the
// bytes that the quantizer writes. The search is a template over what holds lanes:
//
//     Lanes<W>      all sixteen, in registers of W floats            (register_lanes.hpp)
//     cuda::Lane    one; sixteen threads of a GPU have one each      (cuda/lane.hpp)
//
// Such a V has
//     kHeld                           lanes of one object
//     load(p), store(p)               kHeld floats
//     all(x), zero()
//     + - * /  smaller  larger        lane by lane; also float * V
//     < !=     select(mask, x, y)     masks; mask.any(): in one of the lanes, or in one that takes
//                                     its turns together with them
//     exponent_alone(x)               the power of two at or below x > 0, a normal number
//     turn<kSub>(in, out)             number i of sub-block j, in + j * kSub + i, to out[i][j]
//     x.sum_of_block<kSubs>()         over the kSubs neighbouring lanes of a block, in each of
//     them, x.largest_of_block<kSubs>()     in a fixed tree: lanes 4 apart, 2, 1, at last 8
//     x.once_a_block<kSubs>(fn)       fn of a float that all lanes of a block have

#include "kquant/base/macros.hpp"

namespace kquant::detail {

inline constexpr int kLanes = 16;

template <class V>
KQ_INLINE V magnitude(V x) {
  return larger(x, -x);
}
/// a / b, or 0 where b is 0.
template <class V>
KQ_INLINE V ratio(V a, V b) {
  return select(V::zero() < magnitude(b), a / b, V::zero());
}

}  // namespace kquant::detail
