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

/// The pairs of codes of `slot`, one in each half of the result. `words` are the words of a plane
/// from that of slot `first` on, a compile-time constant after unrolling.
template <int kBits>
KQ_DEVICE std::uint32_t plane_codes(std::uint32_t word, int slot, int up) {
  constexpr std::uint32_t kMask = kBits == 16 ? 0xffffu : (1u << kBits) - 1u;
  const int shift = shift_of(kBits, slot) - up;
  const std::uint32_t moved =
      shift >= 0 ? word >> (shift >= 0 ? shift : 0) : word << (shift < 0 ? -shift : 0);
  return moved & ((kMask << up) * 0x00010001u);
}

/// Bits of one plane that a lane needs for a chunk, loaded 16 bytes at a time.
template <int kBits>
struct PlaneReader {
  static constexpr int kSlots = 4 * (16 / kBits);  ///< of 16 bytes
  Words4 now;

  KQ_DEVICE void load(const std::byte* lane_bytes, int slot) {
    if (slot % kSlots == 0) now = load16(lane_bytes + slot / kSlots * kVector);
  }
  KQ_DEVICE std::uint32_t codes(int slot, int up = 0) const {
    return plane_codes<kBits>(now.at[slot % kSlots / (16 / kBits)], slot, up);
  }
};
template <>
struct PlaneReader<0> {
  KQ_DEVICE void load(const std::byte*, int) {}
};

/// Reads a unit's codes chunk by chunk, as lane 4g + t; `unit` may be device or shared memory.
template <class F>
struct CodeReader {
  using L = DeviceLayout<F>;
  const std::byte* codes;  ///< of this lane
  PlaneReader<L::kLowBits> low;
  PlaneReader<L::kHighBits> high;

  /// Two codes (q of columns 2p and 2p + 1), in the low bits of each half. Slots must be asked for
  /// in ascending order, from 0.
  KQ_DEVICE std::uint32_t pair(int slot) {
    low.load(codes, slot);
    std::uint32_t q = low.codes(slot);
    if constexpr (L::kHighBits > 0) {
      high.load(codes + L::kLowBits * kVector, slot);
      q |= high.codes(slot, L::kLowBits);
    }
    return q;
  }
};

/// Scales and factors of one row of a unit.
template <class F>
struct RowScales {
  using L = DeviceLayout<F>;
  static constexpr bool kWords = L::kScaleWords > 0;
  static constexpr int kSubsInChunk = kChunk / F::kSub;
  static constexpr int kConstantMin = [] {
    if constexpr (kWords)
      return 0;
    else
      return F::unpack_scales(typename F::Block{}).min_at(0);
  }();

  ScaleWords<kWords ? F::kBlock / F::kSub : 1> words;
  std::uint32_t factors[L::kRowFactors / 4 > 0 ? L::kRowFactors / 4 : 1];

  KQ_DEVICE void open(const std::byte* unit, int row) {
    if constexpr (kWords) {
      std::uint32_t sc[L::kScaleWords];
      const auto* at =
          reinterpret_cast<const std::uint32_t*>(unit + L::kScalesAt) + row * L::kScaleWords;
      for (int i = 0; i < L::kScaleWords; ++i) sc[i] = at[i];
      words = F::unpack_scale_words(sc);
      if constexpr (F::kHasMin)
        factors[0] = reinterpret_cast<const std::uint32_t*>(unit + L::kFactorsAt)[row];
      else
        factors[0] = reinterpret_cast<const std::uint16_t*>(unit + L::kFactorsAt)[row];
    } else {
      const auto* at = unit + L::kFactorsAt + row * L::kRowFactors;
      for (int i = 0; i < L::kRowFactors / 16; ++i) {
        const Words4 v = load16(at + 16 * i);
        for (int j = 0; j < 4; ++j) factors[4 * i + j] = v.at[j];
      }
    }
  }

  /// Which sub-block of the row's scales lane t meets in a chunk.
  KQ_HOST_DEVICE static constexpr int sub_of(int chunk, int t) {
    return kWords ? chunk * kSubsInChunk + (kSubsInChunk == 2 ? t / 2 : 0) : 0;
  }

  KQ_DEVICE std::uint16_t d_bits(int chunk) const { return factor_bits(chunk, 0); }
  KQ_DEVICE std::uint16_t dmin_bits(int chunk) const { return factor_bits(chunk, 1); }

  /// d * scale, twice.
  KQ_DEVICE Half2 scale(int chunk, int t) const {
    const Half2 d{twice(d_bits(chunk))};
    if constexpr (!kWords)
      return d;
    else
      return mul(small_integer<kSignedScale>(words.scale, sub_of(chunk, 0), t), d);
  }
  /// - dmin * min, twice.
  KQ_DEVICE Half2 minus_min(int chunk, int t) const {
    const auto d = static_cast<std::uint16_t>(dmin_bits(chunk) ^ (kConstantMin < 0 ? 0u : 0x8000u));
    if constexpr (!kWords)
      return {twice(d)};
    else
      return mul(small_integer<false>(words.min, sub_of(chunk, 0), t), {twice(d)});
  }

 private:
  /// Formats with mins have unsigned scales, those without signed ones.
  static constexpr bool kSignedScale = !F::kHasMin;

  KQ_DEVICE std::uint16_t factor_bits(int chunk, int which) const {
    const int i = (kWords ? 0 : chunk) * L::kFactors + which;
    return static_cast<std::uint16_t>(factors[i / 2] >> (16 * (i % 2)));
  }

  /// Byte `sub` (where there are two sub-blocks a chunk: of lanes t >= 2 the next one) as a
  /// binary16 number, twice: by one byte permutation and one subtraction.
  template <bool kSigned>
  KQ_DEVICE static Half2 small_integer(const std::uint32_t* bytes, int sub, int t) {
    const std::uint32_t word = bytes[sub / 4] ^ (kSigned ? 0x80808080u : 0u);
    const auto byte = static_cast<std::uint32_t>(sub % 4 + (kSubsInChunk == 2 ? t / 2 : 0));
    const std::uint32_t magic = permute_bytes(word, 0x64646464u, 0x4040u | byte * 0x0101u);
    return sub_magic(magic, kSigned ? 128 : 0);
  }

 public:
  /// (1024 + q) - (1024 + zero), in both halves.
  KQ_DEVICE static Half2 sub_magic(std::uint32_t magic, int zero) {
    return kquant::cuda::sub({magic}, {twice(static_cast<std::uint16_t>(kMagic + zero))});
  }
};

/// One fragment of tensor-core operand A for each of the two products of a chunk: rows g and g + 8,
/// columns 8t … 8t + 3 and 8t + 4 … 8t + 7 of this lane.
struct ChunkFragments {
  std::uint32_t a[2][4];
};

/// A unit as a warp reads it.
template <class F>
struct UnitReader {
  CodeReader<F> codes;
  RowScales<F> rows[2];
  int t;

  KQ_DEVICE void open(const std::byte* unit, int lane) {
    codes.codes = unit + lane * 16;
    rows[0].open(unit, lane / 4);
    rows[1].open(unit, lane / 4 + 8);
    t = lane % 4;
  }

  /// Chunks must be asked for in ascending order, from 0.
  KQ_DEVICE ChunkFragments chunk(int c) {
    ChunkFragments out;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const Half2 scale = rows[h].scale(c, t);
      Half2 minus_min{};
      if constexpr (F::kHasMin) minus_min = rows[h].minus_min(c, t);
#pragma unroll
      for (int p = 0; p < 4; ++p) {
        const std::uint32_t q = codes.pair(8 * c + 4 * h + p) | twice(kMagic);
        const Half2 centred = RowScales<F>::sub_magic(q, DeviceLayout<F>::kZero);
        const Half2 weight = F::kHasMin ? fma(centred, scale, minus_min) : mul(centred, scale);
        out.a[p / 2][2 * (p % 2) + h] = weight.bits;
      }
    }
    return out;
  }
};

template <>
struct UnitReader<F16> {
  CodeReader<F16> codes;

  KQ_DEVICE void open(const std::byte* unit, int lane) { codes.codes = unit + lane * 16; }
  KQ_DEVICE ChunkFragments chunk(int c) {
    ChunkFragments out;
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int p = 0; p < 4; ++p) out.a[p / 2][2 * (p % 2) + h] = codes.pair(8 * c + 4 * h + p);
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
    RowScales<F> scales;
    scales.open(unit, row);
    const int chunk = col / kChunk, sub = scales.sub_of(chunk, col % kChunk / 8);
    const float d_scale = half_value(scales.d_bits(chunk)) *
                          static_cast<float>(scales.kWords ? scales.words.scale_at(sub) : 1);
    const float value = d_scale * static_cast<float>(q - DeviceLayout<F>::kZero);
    if constexpr (F::kHasMin)
      return value -
             half_value(scales.dmin_bits(chunk)) *
                 static_cast<float>(scales.kWords ? scales.words.min_at(sub) : scales.kConstantMin);
    return value;
  }
}

}  // namespace kquant::cuda
