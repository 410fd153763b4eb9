#pragma once
// From a unit's bytes (layout.hpp) to numbers: pairs of binary16 for tensor cores, and single
// weights in binary32 for tables that are looked up.
//
// A code q < 1024 becomes a binary16 number by being or-ed into the mantissa of 1024: 0x6400 | q is
// 1024 + q. One shift, one lop3, one subtraction (exact) and one multiplication make two weights:
//
//     weight = (q - zero) * (d * scale)  [- dmin * min]
//
// with d * scale and dmin * min rounded to binary16 and the result rounded once more: a relative
// error of about 2^-11, against 2^-5 … 2^-9 of the quantization itself. The CPU's dequantization
// forms the same in binary32.

#include "cuda/layout.hpp"
#include "cuda/vocabulary.hpp"

namespace kquant::cuda {

inline constexpr std::uint16_t kMagic = 0x6400;  ///< 1024 in binary16

/// (1024 + q) - (1024 + zero), in both halves.
KQ_DEVICE Half2 without_magic(std::uint32_t magic, int zero) {
  return sub({magic}, {twice(static_cast<std::uint16_t>(kMagic + zero))});
}

inline constexpr int kSteps = 4;  ///< of a unit; a step is 64 columns
inline constexpr int kStepChunks = kChunks / kSteps;
inline constexpr int kStepSlots = 16;

/// A lane's words of one plane in one step: 16 slots of B bits are B words.
template <int kBits>
struct PlaneWords {
  std::uint32_t at[kBits];

  KQ_DEVICE void load(const std::byte* lane_bytes, int step) {
    if constexpr (kBits >= 4) {
#pragma unroll
      for (int i = 0; i < kBits / 4; ++i) {
        const Words4 v = load16(lane_bytes + (step * (kBits / 4) + i) * kVector);
#pragma unroll
        for (int j = 0; j < 4; ++j) at[4 * i + j] = v.at[j];
      }
    } else {
      const auto* words = reinterpret_cast<const std::uint32_t*>(
          lane_bytes + step * kBits / 4 * kVector + step * kBits % 4 * 4);
#pragma unroll
      for (int i = 0; i < kBits; ++i) at[i] = words[i];
    }
  }

  /// Bits of the two codes of a slot of this step, moved up, one in each half, or-ed into `onto`.
  /// With the slot a constant: one shift, one lop3.
  KQ_DEVICE std::uint32_t codes(int slot, int up, std::uint32_t onto) const {
    constexpr std::uint32_t kMask = kBits == 16 ? 0xffffu : (1u << kBits) - 1u;
    const std::uint32_t word = at[slot / (16 / kBits)];
    const int shift = shift_of(kBits, slot) - up;
    const std::uint32_t moved =
        shift >= 0 ? word >> (shift >= 0 ? shift : 0) : word << (shift < 0 ? -shift : 0);
    return and_or(moved, (kMask << up) * 0x00010001u, onto);
  }
};
template <>
struct PlaneWords<0> {
  KQ_DEVICE void load(const std::byte*, int) {}
};

/// A lane's codes of one step; the unit may be in device or shared memory.
template <class F>
struct StepCodes {
  using L = DeviceLayout<F>;
  PlaneWords<L::kLowBits> low;
  PlaneWords<L::kHighBits> high;

  KQ_DEVICE void open(const std::byte* unit, int lane, int step) {
    low.load(unit + lane * 16, step);
    high.load(unit + L::kLowBits * kVector + lane * 16, step);
  }
  /// Two codes (of columns 2p and 2p + 1), in the low bits of each half of `onto`.
  KQ_DEVICE std::uint32_t pair(int slot, std::uint32_t onto) const {
    std::uint32_t q = low.codes(slot, 0, onto);
    if constexpr (L::kHighBits > 0) q = high.codes(slot, L::kLowBits, q);
    return q;
  }
};

/// One of four words; no run-time index, which would move them to memory.
template <int kWords>
KQ_DEVICE std::uint32_t pick(const std::uint32_t (&words)[kWords], int i) {
  if constexpr (kWords == 1) return words[0];
  if constexpr (kWords == 2) return i == 0 ? words[0] : words[1];
  if constexpr (kWords == 4)
    return i < 2 ? (i == 0 ? words[0] : words[1]) : (i == 2 ? words[2] : words[3]);
}

/// Scales and factors of one row in one step.
template <class F>
struct StepScales {
  using L = DeviceLayout<F>;
  static constexpr bool kWords = L::kScaleWords > 0;  ///< k-quants: integer scales
  static constexpr int kSubsInChunk = kWords ? kChunk / F::kSub : 1;
  static constexpr int kSubsInStep = kSubsInChunk * kStepChunks;
  static constexpr bool kSignedScale = !F::kHasMin;  ///< formats with mins have unsigned scales
  static constexpr int kConstantMin = [] {
    if constexpr (kWords)
      return 0;
    else
      return F::unpack_scales(typename F::Block{}).min_at(0);
  }();
  static constexpr int kFactorWords = kWords ? 1 : L::kFactors;

  std::uint32_t scale_bytes = 0, min_bytes = 0;  ///< those of this step from the lowest byte up
  std::uint32_t factors[kFactorWords];           ///< halves: d[, dmin] of each block

  KQ_DEVICE void open(const std::byte* unit, int row, int step) {
    if constexpr (kWords) {
      std::uint32_t sc[L::kScaleWords];
      const auto* at =
          reinterpret_cast<const std::uint32_t*>(unit + L::kScalesAt) + row * L::kScaleWords;
#pragma unroll
      for (int i = 0; i < L::kScaleWords; ++i) sc[i] = at[i];
      const auto words = F::unpack_scale_words(sc);
      const int word = step * kSubsInStep / 4, shift = step * kSubsInStep % 4 * 8;
      scale_bytes = pick(words.scale, word) >> shift;
      if constexpr (F::kHasMin) {
        min_bytes = pick(words.min, word) >> shift;
        factors[0] = reinterpret_cast<const std::uint32_t*>(unit + L::kFactorsAt)[row];
      } else {
        factors[0] = reinterpret_cast<const std::uint16_t*>(unit + L::kFactorsAt)[row];
      }
    } else {
      const auto* at =
          reinterpret_cast<const std::uint32_t*>(unit + L::kFactorsAt + row * L::kRowFactors) +
          step * kFactorWords;
#pragma unroll
      for (int i = 0; i < kFactorWords; ++i) factors[i] = at[i];
    }
  }

  KQ_DEVICE std::uint16_t d_bits(int chunk) const {
    return factor_bits(chunk, 0);
  }
  KQ_DEVICE std::uint16_t dmin_bits(int chunk) const {
    return factor_bits(chunk, 1);
  }

  /// What lane t meets in a chunk of this step.
  KQ_DEVICE int scale_integer(int chunk, int t) const {
    return integer(scale_bytes, chunk, t, 1);
  }
  KQ_DEVICE int min_integer(int chunk, int t) const {
    return integer(min_bytes, chunk, t, kConstantMin);
  }

  /// d * scale, twice.
  KQ_DEVICE Half2 scale(int chunk, int t) const {
    const Half2 d{twice(d_bits(chunk))};
    if constexpr (!kWords)
      return d;
    else
      return mul(small_integer<kSignedScale>(scale_bytes, chunk, t), d);
  }
  /// - dmin * min, twice.
  KQ_DEVICE Half2 minus_min(int chunk, int t) const {
    const auto d = static_cast<std::uint16_t>(dmin_bits(chunk) ^ (kConstantMin < 0 ? 0u : 0x8000u));
    if constexpr (!kWords)
      return {twice(d)};
    else
      return mul(small_integer<false>(min_bytes, chunk, t), {twice(d)});
  }

 private:
  KQ_DEVICE static int byte_of(int chunk, int t) {
    return chunk * kSubsInChunk + (kSubsInChunk == 2 ? t / 2 : 0);
  }
  KQ_DEVICE static int integer(std::uint32_t bytes, int chunk, int t, int constant) {
    if constexpr (!kWords) return constant;
    return static_cast<std::int8_t>(bytes >> (8 * byte_of(chunk, t)) & 0xffu);
  }
  KQ_DEVICE std::uint16_t factor_bits(int chunk, int which) const {
    const int i = (kWords ? 0 : chunk) * L::kFactors + which;
    return static_cast<std::uint16_t>(factors[i / 2] >> (16 * (i % 2)));
  }
  /// A byte as a binary16 number, twice: one byte permutation and one subtraction.
  template <bool kSigned>
  KQ_DEVICE static Half2 small_integer(std::uint32_t bytes, int chunk, int t) {
    const auto byte = static_cast<std::uint32_t>(byte_of(chunk, t));
    const std::uint32_t magic =
        permute_bytes(bytes ^ (kSigned ? 0x80808080u : 0u), 0x64646464u, 0x4040u | byte * 0x0101u);
    return without_magic(magic, kSigned ? 128 : 0);
  }
};

/// A lane's fragments of tensor-core operand A for the two products of a chunk: rows g and g + 8,
/// columns 8t … 8t + 3 and 8t + 4 … 8t + 7.
struct ChunkFragments {
  std::uint32_t a[2][4];
};

/// One step of a unit, as lane 4g + t of a warp reads it.
template <class F>
struct StepReader {
  StepCodes<F> codes;
  StepScales<F> rows[2];
  int t;

  KQ_DEVICE void open(const std::byte* unit, int lane, int step) {
    codes.open(unit, lane, step);
    rows[0].open(unit, lane / 4, step);
    rows[1].open(unit, lane / 4 + 8, step);
    t = lane % 4;
  }
  /// Of chunk 0 or 1 of the step, a constant.
  KQ_DEVICE ChunkFragments chunk(int c) const {
    ChunkFragments out;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const Half2 scale = rows[h].scale(c, t);
      Half2 minus_min{};
      if constexpr (F::kHasMin) minus_min = rows[h].minus_min(c, t);
#pragma unroll
      for (int p = 0; p < 4; ++p) {
        const Half2 q =
            without_magic(codes.pair(8 * c + 4 * h + p, twice(kMagic)), DeviceLayout<F>::kZero);
        const Half2 weight = F::kHasMin ? fma(q, scale, minus_min) : mul(q, scale);
        out.a[p / 2][2 * (p % 2) + h] = weight.bits;
      }
    }
    return out;
  }
};

template <>
struct StepReader<F16> {
  StepCodes<F16> codes;

  KQ_DEVICE void open(const std::byte* unit, int lane, int step) { codes.open(unit, lane, step); }
  KQ_DEVICE ChunkFragments chunk(int c) const {
    ChunkFragments out;
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int p = 0; p < 4; ++p) out.a[p / 2][2 * (p % 2) + h] = codes.pair(8 * c + 4 * h + p, 0);
    return out;
  }
};

/// One code, by its place.
template <class F>
KQ_DEVICE int code_in_unit(const std::byte* unit, int row, int col) {
  using L = DeviceLayout<F>;
  const Slot at = slot_of(row, col);
  const auto bits = [&](int plane_at, int n) {
    const auto word =
        *reinterpret_cast<const std::uint32_t*>(unit + word_at(plane_at, n, at.lane, at.slot));
    return static_cast<int>((word >> (shift_of(n, at.slot) + 16 * at.half)) & ((1u << n) - 1u));
  };
  int q = bits(0, L::kLowBits);
  if constexpr (L::kHighBits > 0) q |= bits(L::kLowBits * kVector, L::kHighBits) << L::kLowBits;
  return q;
}

/// One weight in binary32, rounded as dequantize_block does; still to be multiplied by the row's
/// power of two, which is exact.
template <class F>
KQ_DEVICE float weight_in_unit(const std::byte* unit, int row, int col) {
  const int q = code_in_unit<F>(unit, row, col);
  if constexpr (DeviceLayout<F>::kPlain) {
    return half_value(static_cast<std::uint16_t>(q));
  } else {
    const int chunk = col / kChunk % kStepChunks, t = col % kChunk / 8;
    StepScales<F> scales;
    scales.open(unit, row, col / kChunk / kStepChunks);
    const float d_scale =
        half_value(scales.d_bits(chunk)) * static_cast<float>(scales.scale_integer(chunk, t));
    const float value = d_scale * static_cast<float>(q - DeviceLayout<F>::kZero);
    if constexpr (F::kHasMin)
      return value -
             half_value(scales.dmin_bits(chunk)) * static_cast<float>(scales.min_integer(chunk, t));
    return value;
  }
}

}  // namespace kquant::cuda
