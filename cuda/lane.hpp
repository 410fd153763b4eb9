#pragma once
// One of the sixteen lanes that the quantizer searches in (lib/quantize/lanes.hpp): a thread has
// one, a warp two blocks of weights or more.

#include "cuda/vocabulary.hpp"
#include "quantize/lanes.hpp"

namespace kquant::cuda {

struct Lane {
  static constexpr int kHeld = 1;
  float at;

  /// Loops run as long as one lane of the warp wants to; what others compute meanwhile is what they
  /// have already.
  struct Mask {
    bool at;
    KQ_DEVICE bool any() const { return any_of_warp(at); }
  };

  KQ_DEVICE static int index() { return thread() % detail::kLanes; }

  KQ_DEVICE static Lane load(const float* p) { return {*p}; }
  KQ_DEVICE void store(float* p) const { *p = at; }
  KQ_DEVICE static Lane all(float x) { return {x}; }
  KQ_DEVICE static Lane zero() { return {0}; }

  KQ_DEVICE friend Lane operator+(Lane x, Lane y) { return {x.at + y.at}; }
  KQ_DEVICE friend Lane operator-(Lane x, Lane y) { return {x.at - y.at}; }
  KQ_DEVICE friend Lane operator*(Lane x, Lane y) { return {x.at * y.at}; }
  KQ_DEVICE friend Lane operator/(Lane x, Lane y) { return {x.at / y.at}; }
  KQ_DEVICE friend Lane operator*(float x, Lane y) { return {x * y.at}; }
  KQ_DEVICE Lane operator-() const { return {0 - at}; }

  // As SSE has them: the second where neither is smaller or larger.
  KQ_DEVICE friend Lane smaller(Lane x, Lane y) { return {x.at < y.at ? x.at : y.at}; }
  KQ_DEVICE friend Lane larger(Lane x, Lane y) { return {x.at > y.at ? x.at : y.at}; }
  KQ_DEVICE friend Mask operator<(Lane x, Lane y) { return {x.at < y.at}; }
  KQ_DEVICE friend Mask operator!=(Lane x, Lane y) { return {x.at != y.at}; }
  KQ_DEVICE friend Lane select(Mask m, Lane x, Lane y) { return {m.at ? x.at : y.at}; }
  KQ_DEVICE friend Lane exponent_alone(Lane x) {
    return {__builtin_bit_cast(
        float, __builtin_bit_cast(std::uint32_t, x.at) & std::uint32_t{0x7f800000})};
  }

  template <int kSub>
  KQ_DEVICE static void turn(const float* in, float (*out)[kHeld]) {
    const float* mine = in + index() * kSub;
#pragma unroll
    for (int i = 0; i < kSub; i += 4) {
      const Words4 four = load16(mine + i);
#pragma unroll
      for (int k = 0; k < 4; ++k) out[i + k][0] = __builtin_bit_cast(float, four.at[k]);
    }
  }

  template <int kSubs>
  KQ_DEVICE Lane sum_of_block() const {
    return over_block<kSubs>([](Lane x, Lane y) { return x + y; });
  }
  template <int kSubs>
  KQ_DEVICE Lane largest_of_block() const {
    return over_block<kSubs>([](Lane x, Lane y) { return larger(x, y); });
  }
  template <int kSubs, class Fn>
  KQ_DEVICE Lane once_a_block(Fn fn) const {
    return {fn(at)};
  }

 private:
  /// The operands in the order of lanes where registers have them so: one of two zeros is the
  /// larger.
  template <int kSubs, class Join>
  KQ_DEVICE Lane over_block(Join join) const {
    Lane x = *this;
    if constexpr (kSubs > 1) {
      const auto with = [&](int distance, bool in_order) {
        const Lane other{shuffle_xor(x.at, distance)};
        const bool swapped = in_order && (index() & distance) != 0;
        x = swapped ? join(other, x) : join(x, other);
      };
      with(4, true);
      with(2, false);
      with(1, false);
      if constexpr (kSubs == 16) with(8, true);
    }
    return x;
  }
};

}  // namespace kquant::cuda
