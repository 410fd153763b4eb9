#pragma once
// From a unit's bytes (layout.hpp) to numbers: pairs of binary16 for tensor cores, and single
// weights in binary32 for tables that are looked up.
//
// Codes are never converted: where they lie, they are the mantissas of (subnormal) binary16 numbers
// already, q x 2^(b - 24) at bit b. One lop3 and one fused multiply-add make two weights (after a
// shift, for half of them; and after two planes have been merged, where there are two):
//
//     weight = q x 2^(b - 24) * S + A,     S = (d * scale) x 2^-b
//                                          A = - zero x 2^(b - 24) * S,  or  - dmin * min x 2^-24
//
// with d * scale and dmin * min rounded to binary16 and the result rounded once more: a relative
// error of about 2^-11 (and an absolute one of 2^-25, where a row's scales are 2^14), against
// 2^-5 … 2^-9 of the quantization itself. The CPU's dequantization forms the same in binary32.

#include "cuda/layout.hpp"
#include "cuda/vocabulary.hpp"

namespace kquant::cuda {

/// 2^exponent in binary16, from 2^-14 to 2^15.
KQ_HOST_DEVICE constexpr std::uint16_t half_power(int exponent) {
  return static_cast<std::uint16_t>((15 + exponent) << 10);
}
inline constexpr std::uint16_t kMinus = 0x8000;  ///< with a zero point as the mantissa: - zero

/// A lane's words of one plane in one step, of one that has `below` bits below it or of none.
template <int kBits, int kBelow>
struct PlaneStep {
  static constexpr int kVectors = kBits == 1 ? 1 : 2;
  Words4 vectors[kVectors];

  KQ_DEVICE static constexpr int first_of(int step) {
    return field(kBits, kBelow, kStepChunks * step, 0, 0).vector;
  }
  KQ_DEVICE void load(const std::byte* lane_bytes, int step) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i)
      vectors[i] = load16(lane_bytes + (first_of(step) + i) * kVector);
  }
  /// That with the codes of a pair.
  KQ_DEVICE std::uint32_t word(int step, int chunk, int h, int pair) const {
    const Field at = field(kBits, kBelow, kStepChunks * step + chunk, h, pair);
    return vectors[at.vector - first_of(step)].at[at.word];
  }
};
template <int kBelow>
struct PlaneStep<0, kBelow> {
  KQ_DEVICE void load(const std::byte*, int) {}
};

/// A lane's codes of one step; the unit may be in device or shared memory.
template <class F>
struct StepCodes {
  using L = DeviceLayout<F>;
  PlaneStep<L::kLowBits, 0> low;
  PlaneStep<L::kHighBits, L::kLowBits> high;

  KQ_DEVICE void open(const std::byte* unit, int lane, int step) {
    low.load(unit + lane * 16, step);
    high.load(unit + L::kLowBits * kVector + lane * 16, step);
  }
  /// The lowest bit of the codes of a step in each half of pair(): 0 … 6.
  KQ_HOST_DEVICE static constexpr int bit_of(int step, int h) { return whole_bit(step, h) % 8; }

  /// Two codes. `step`, which has been opened, and all others are constants.
  KQ_DEVICE std::uint32_t pair(int step, int chunk, int h, int p) const {
    const std::uint32_t word = whole_codes(step, chunk, h, p);
    constexpr int kMask = (1 << L::kBits) - 1;
    return (whole_bit(step, h) >= 8 ? word >> 8 : word) &
           twice(static_cast<std::uint16_t>(kMask << bit_of(step, h)));
  }

 private:
  KQ_HOST_DEVICE static constexpr int whole_bit(int step, int h) {
    return field(L::kLowBits, 0, kStepChunks * step, L::kHighBits > 0 ? 0 : h, 0).bit;
  }
  /// A word with all bits of the codes, and of those of other steps: the compiler makes it once.
  KQ_DEVICE std::uint32_t whole_codes(int step, int chunk, int h, int p) const {
    const std::uint32_t word = low.word(step, chunk, h, p);
    if constexpr (L::kHighBits == 0) {
      return word;
    } else {
      constexpr std::uint32_t kLow = (1u << L::kLowBits) - 1u,
                              kLowOfAll = 0xffffffffu / ((1u << (2 * L::kLowBits)) - 1u) * kLow;
      const int shift = field(L::kHighBits, L::kLowBits, kStepChunks * step + chunk, h, p).bit -
                        (whole_bit(step, h) + L::kLowBits);
      const std::uint32_t above = high.word(step, chunk, h, p);
      return select_bits(
          kLowOfAll, h == 0 ? word : word >> L::kLowBits,
          shift >= 0 ? above >> (shift >= 0 ? shift : 0) : above << (shift < 0 ? -shift : 0));
    }
  }
};

/// One of few words; no run-time index into registers, which would move them to memory.
template <int kWords>
KQ_DEVICE std::uint32_t pick(const std::uint32_t (&words)[kWords], int i) {
  if constexpr (kWords == 1)
    return words[0];
  else
    return i == 0 ? words[0] : words[1];
}

/// What codes are multiplied by, and what is added; in both halves.
struct ScaleAndAddend {
  Half2 scale, addend;
};

/// Scales and factors of a quarter of a row.
template <class F>
struct QuarterScales {
  using L = DeviceLayout<F>;
  static constexpr int kSubs = kQuarter / F::kSub;         ///< 4, or 2
  static constexpr bool kIntegers = L::kScaleWords > 0;    ///< k-quants
  static constexpr bool kPairs = kIntegers && F::kHasMin;  ///< of a scale and a min
  static_assert(kPairs || !kIntegers || kSubs == 4);

  /// kPairs: bytes scale, min of two sub-blocks; else scale + 128 of four.
  std::uint32_t integers[kPairs ? kSubs / 2 : 1];
  /// Halves. k-quants: d and -dmin, or d twice; else d of two blocks, or d and m of each.
  std::uint32_t factors[!kIntegers && F::kHasMin ? 2 : 1];

  KQ_DEVICE void open(const std::byte* unit, int row, int t) {
    const std::byte* factors_of_row = unit + L::kFactorsAt + row * L::kRowFactors;
    if constexpr (kIntegers) {
      const auto* sc =
          reinterpret_cast<const std::uint32_t*>(unit + L::kScalesAt + row * L::kRowScales);
      const auto word = F::unpack_scale_word(sc, t * kSubs / 4);
      if constexpr (kPairs) {
        constexpr std::uint32_t kFirst = 0x5140, kSecond = 0x7362;
        if constexpr (kSubs == 4) {
          integers[0] = permute_bytes(word.scale, word.min, kFirst);
          integers[1] = permute_bytes(word.scale, word.min, kSecond);
        } else {
          integers[0] = permute_bytes(word.scale, word.min, t % 2 == 0 ? kFirst : kSecond);
        }
        factors[0] = *reinterpret_cast<const std::uint32_t*>(factors_of_row);
      } else {
        integers[0] = word.scale ^ 0x80808080u;
        factors[0] = twice(*reinterpret_cast<const std::uint16_t*>(factors_of_row));
      }
    } else {
      if constexpr (F::kHasMin) {  // 8 bytes at once, or lanes would meet half of the banks
        const std::uint64_t both = reinterpret_cast<const std::uint64_t*>(factors_of_row)[t];
        factors[0] = static_cast<std::uint32_t>(both);
        factors[1] = static_cast<std::uint32_t>(both >> 32);
      } else {
        factors[0] = reinterpret_cast<const std::uint32_t*>(factors_of_row)[t];
      }
    }
  }

  /// For the codes of a step as StepCodes::pair() has them, of row half h; both are constants.
  KQ_DEVICE ScaleAndAddend of_step(int step, int h) const {
    const int bit = StepCodes<F>::bit_of(step, h), block = sub_block(step);
    if constexpr (kPairs) {
      // 1024 x 2^-bit + scale x 2^-bit, and the min as a mantissa.
      const auto base = half_power(10 - bit);
      const auto s = static_cast<std::uint32_t>(2 * (block % 2));
      const std::uint32_t raw =
          permute_bytes(integers[block / 2], base >> 8, s | 4u << 4 | (s + 1) << 8 | 5u << 12);
      return halves_of(mul(sub({raw}, {base}), {factors[0]}));
    } else if constexpr (kIntegers) {
      // Two steps at once.
      const int first = step - step % 2;
      const int bits[2] = {StepCodes<F>::bit_of(first, h), StepCodes<F>::bit_of(first + 1, h)};
      const std::uint16_t bases[2] = {half_power(10 - bits[0]), half_power(10 - bits[1])};
      const auto s = static_cast<std::uint32_t>(first);
      const std::uint32_t raw = permute_bytes(integers[0], (bases[0] >> 8) | (bases[1] & 0xff00u),
                                              s | 4u << 4 | (s + 1) << 8 | 5u << 12);
      const Half2 scales = mul(sub({raw}, both(bases[0] + 128, bases[1] + 128)), {factors[0]});
      const Half2 addends =
          mul(scales, both(kMinus | L::kZero << bits[0], kMinus | L::kZero << bits[1]));
      return step % 2 == 0 ? ScaleAndAddend{low_twice(scales), low_twice(addends)}
                           : ScaleAndAddend{high_twice(scales), high_twice(addends)};
    } else if constexpr (F::kHasMin) {
      return halves_of(mul({factors[block]}, both(half_power(-bit), 1)));
    } else {
      const Half2 scales = mul({factors[0]}, {twice(half_power(-bit))});
      const Half2 addends = mul({factors[0]}, {twice(kMinus | L::kZero)});
      return block == 0 ? ScaleAndAddend{low_twice(scales), low_twice(addends)}
                        : ScaleAndAddend{high_twice(scales), high_twice(addends)};
    }
  }

  /// d * scale of a step in binary32, rounded as dequantize_block does, for codes that count 1.
  KQ_DEVICE float d_scale(int step) const {
    const int block = sub_block(step);
    if constexpr (kPairs) return d(0) * static_cast<float>(pair_of(block) & 0xffu);
    if constexpr (kIntegers)
      return d(0) * static_cast<float>(static_cast<int>(integers[0] >> (8 * block) & 0xffu) - 128);
    return d(block);
  }
  /// - dmin * min, likewise; 0 where there is none.
  KQ_DEVICE float addend(int step) const {
    if constexpr (!F::kHasMin) return 0.0f;
    const int block = sub_block(step);
    if constexpr (kPairs) return second(0) * static_cast<float>(pair_of(block) >> 8 & 0xffu);
    return second(block);
  }

 private:
  KQ_DEVICE static constexpr int sub_block(int step) { return step * kSubs / kSteps; }
  KQ_DEVICE std::uint32_t pair_of(int block) const {
    return pick(integers, block / 2) >> (16 * (block % 2));
  }
  KQ_DEVICE float d(int block) const {
    const std::uint32_t word = pick(factors, F::kHasMin ? block : 0);
    const bool high = !kIntegers && !F::kHasMin && block == 1;
    return L::kCodeUnit * half_value(static_cast<std::uint16_t>(high ? word >> 16 : word));
  }
  KQ_DEVICE float second(int block) const {
    return L::kCodeUnit * half_value(static_cast<std::uint16_t>(pick(factors, block) >> 16));
  }
  KQ_DEVICE static ScaleAndAddend halves_of(Half2 both) {
    return {low_twice(both), high_twice(both)};
  }
  KQ_DEVICE static constexpr Half2 both(int low, int high) {
    return {static_cast<std::uint32_t>(low) | static_cast<std::uint32_t>(high) << 16};
  }
};

/// A lane's fragments of tensor-core operand A for the two products of a chunk: rows g and g + 8,
/// its columns 0 … 3 and 4 … 7.
struct ChunkFragments {
  std::uint32_t a[2][4];
};

/// A unit, as lane 4g + t of a warp reads it: scales once, codes step by step.
template <class F>
struct UnitReader {
  QuarterScales<F> rows[2];
  StepCodes<F> steps[kSteps];

  KQ_DEVICE void open(const std::byte* unit, int lane) {
    rows[0].open(unit, lane / 4, lane % 4);
    rows[1].open(unit, lane / 4 + 8, lane % 4);
  }
  KQ_DEVICE void load(const std::byte* unit, int lane, int step) {
    steps[step].open(unit, lane, step);
  }
  /// Of chunk 0 or 1 of the step that was loaded; constants.
  KQ_DEVICE ChunkFragments chunk(int step, int c) const {
    ChunkFragments out;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const ScaleAndAddend of = rows[h].of_step(step, h);
#pragma unroll
      for (int p = 0; p < 4; ++p)
        out.a[p / 2][2 * (p % 2) + h] =
            fma({steps[step].pair(step, c, h, p)}, of.scale, of.addend).bits;
    }
    return out;
  }
};

/// Plain weights lie as fragments do.
template <>
struct UnitReader<F16> {
  const std::byte* lane_bytes;

  KQ_DEVICE void open(const std::byte* unit, int lane) { lane_bytes = unit + lane * 16; }
  KQ_DEVICE void load(const std::byte*, int, int) {}
  KQ_DEVICE ChunkFragments chunk(int step, int c) const {
    ChunkFragments out;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int vector = field(16, 0, kStepChunks * step + c, 0, 2 * k).vector;
      const Words4 v = load16(lane_bytes + vector * kVector);
#pragma unroll
      for (int i = 0; i < 4; ++i) out.a[k][i] = v.at[i];
    }
    return out;
  }
};

/// One code, by its place.
template <class F>
KQ_DEVICE int code_in_unit(const std::byte* unit, const Place& place) {
  using L = DeviceLayout<F>;
  const auto bits = [&](int plane_at, int n, int below) {
    const Field at = field(n, below, place.chunk, place.h, place.pair);
    const auto word =
        *reinterpret_cast<const std::uint32_t*>(unit + word_at(plane_at, at, place.lane));
    return static_cast<int>((word >> (at.bit + 16 * place.half)) & ((1u << n) - 1u));
  };
  int q = bits(0, L::kLowBits, 0);
  if constexpr (L::kHighBits > 0)
    q |= bits(L::kLowBits * kVector, L::kHighBits, L::kLowBits) << L::kLowBits;
  return q;
}

/// One weight in binary32, rounded as dequantize_block does; still to be multiplied by the row's
/// power of two, which is exact.
template <class F>
KQ_DEVICE float weight_in_unit(const std::byte* unit, int row, int col) {
  const Place place = place_of(row, col);
  const int q = code_in_unit<F>(unit, place);
  if constexpr (DeviceLayout<F>::kPlain) {
    return half_value(static_cast<std::uint16_t>(q));
  } else {
    QuarterScales<F> scales;
    scales.open(unit, row, place.lane % 4);
    const int step = place.chunk / kStepChunks;
    const float value = scales.d_scale(step) * static_cast<float>(q - DeviceLayout<F>::kZero);
    return F::kHasMin ? value + scales.addend(step) : value;
  }
}

}  // namespace kquant::cuda
