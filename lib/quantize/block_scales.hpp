#pragma once
// What a block stores beside its codes, and the block packed from both.

#include <utility>

#include "ranges.hpp"
#include "rounding.hpp"

namespace kquant::detail {

/// The outcome of the search for one block.
template <class F>
struct BlockScales {
  float d = 0, dmin = 0;  ///< as they will be read back: binary16 where the format says so
  ScaleWords<kSubs<F>> words{};

  /// A weight of sub-block j is read back as scale(j) * code - min(j).
  float scale(int j) const { return d * static_cast<float>(words.scale_at(j)); }
  float min(int j) const { return F::kHasMin ? dmin * static_cast<float>(words.min_at(j)) : 0.0f; }
};

/// 1 / scale, 0 where there is none.
template <class V>
KQ_INLINE V inverse_of(V scale) {
  return select(V::all(0x1p-100f) < magnitude(scale), V::all(1) / scale, V::zero());
}

/// Values beyond this are cut: no format reaches it (65504 * 128 * 32 is less).
inline constexpr float kBlockUnitLimit = 0x1p29f;

/// x divided by the power of two of its block's largest magnitude; down: 1 / that.
template <class V>
KQ_INLINE V in_block_units(V x, V down) {
  const V limit = V::all(kBlockUnitLimit);
  return smaller(larger(x, -limit), limit) * down;
}

/// The nearest code, as it is multiplied (q - kZero); inverse = 1 / scale. V: float-like.
template <class F, class V>
KQ_INLINE V nearest(V x, V min, V inverse) {
  const V c = F::kHasMin ? (x + min) * inverse : x * inverse;
  return round_even(smaller(larger(c, V::all(static_cast<float>(kCodes<F>.low))),
                            V::all(static_cast<float>(kCodes<F>.high))));
}

/// With G known at compile time a run is a few vector instructions.
template <class F, int G>
KQ_INLINE void put_run(const std::int8_t* codes, int first, int step, std::uint8_t* bytes) {
  for (int i = first; i < F::kRun; i += step)
    put_code<F>(bytes, G, i, codes[G * F::kRun + i] + F::kZero);
}
template <class F, int... G>
KQ_INLINE void put_runs(const std::int8_t* codes, int first, int step, std::uint8_t* bytes,
                        std::integer_sequence<int, G...>) {
  (put_run<F, G>(codes, first, step, bytes), ...);
}

/// Puts weights first, first + step … of every run into a block whose planes are zeros there.
/// codes: F::kBlock of them, as they are multiplied (q - kZero).
template <class F>
KQ_INLINE void put_codes(const std::int8_t* codes, int first, int step, std::uint8_t* bytes) {
  put_runs<F>(codes, first, step, bytes, std::make_integer_sequence<int, kRuns<F>>{});
}

template <class F>
KQ_INLINE void put_scales(const BlockScales<F>& scales, typename F::Block& block) {
  F::pack_scales(scales.words, block);
  F::set_d(block, scales.d, scales.dmin);
}

/// codes: as of put_codes().
template <class F>
KQ_INLINE typename F::Block pack_block(const BlockScales<F>& scales, const std::int8_t* codes) {
  typename F::Block block{};
  put_scales<F>(scales, block);
  put_codes<F>(codes, 0, 1, bytes_of<F>(block));
  return block;
}

}  // namespace kquant::detail
