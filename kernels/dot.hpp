#pragma once
// A super-block of weights against a super-block of quantized activations.
//
//     k-quants    acc += (d * da) * float(sum of scale * code * a  -  zero * sum of scale * sum a)
//                 acc -= (dmin * da) * float(sum of min * sum a)
//     block32     acc += (d * da) * float(sum of (code - zero) * a)              for each block
//                 acc -= (dmin * min) * (da * sum a)                             for each block
//
// acc is 16 floats; lane L sums codes 4L … 4L + 3 of each chunk of 64 (the second line of a k-quant
// and of block32: lanes 0 … 7, one per pair of quarters or per block). Lanes are added in one fixed
// tree at the end of the row. Nothing depends on how many columns are computed together, on the
// number of threads, or on the ISA.
//
// Arithmetic per 256 weights and column, AVX-512: k-quants 4 vpmaddubsw + 4 vpdpwssd + 1 vpmaddwd +
// 4 or 7 float operations, 15 of two a cycle: 34 products a cycle of the 128 that vpdpbusd could.
// block32: 4 vpdpbusd + 16 + 1 (3) float operations: 23 products a cycle.

#include "kernels/table.hpp"
#include "kernels/unpack.hpp"

namespace kquant::kernels {

/// One row of X, quantized (see Activations).
struct Column {
  const std::uint8_t* codes;
  const float* scales;
  const float* scaled_sums;
  const std::int16_t* sums16;

  template <int kGroup>
  KQ_INLINE static Column of(const Activations& a, std::size_t m) {
    const std::size_t n = a.padded / kGroup;
    if constexpr (kGroup == 32)
      return {a.codes + m * a.padded, a.scales + m * n, a.scaled_sums + m * n, nullptr};
    else
      return {a.codes + m * a.padded, a.scales + m * n, nullptr, a.sums16 + m * (a.padded / 16)};
  }
};

/// A super-block as the inner loop wants it; unpacked once for many columns.
template <class F, class Isa>
struct Unpacked {
  typename Isa::Bytes codes[kChunks];
  typename Isa::Words scales[kChunks];
  typename Isa::Sums correction;  ///< mins, or scales * -zero
  float d, dmin;

  KQ_INLINE static Unpacked of(const std::uint8_t* p) {
    const auto& block = *reinterpret_cast<const typename F::Block*>(p);
    const auto words = F::unpack_scales(block);
    const auto sub = Isa::template sub_words<kSubs<F>>(words.scale);
    Unpacked u;
    unrolled<kChunks>([&]<int kChunk>() __attribute__((always_inline)) {
      u.codes[kChunk] = stored_codes<F, Isa, kChunk>(p);
      u.scales[kChunk] = Isa::template spread<kChunk>(sub);
    });
    u.correction =
        F::kHasMin ? Isa::template sub_words<kSubs<F>>(words.min) : Isa::times(sub, -F::kZero);
    u.d = Isa::to_float(block.d);
    u.dmin = 0.0f;
    if constexpr (F::kHasMin) u.dmin = Isa::to_float(block.dmin);
    return u;
  }

  KQ_INLINE void multiply(const Column& column, std::size_t super,
                          typename Isa::Floats& acc) const {
    using Floats = typename Isa::Floats;
    const std::uint8_t* a = column.codes + super * kSuper;
    const float da = column.scales[super];
    const auto mins = Isa::sums_dot(correction, column.sums16 + super * kQuarters);
    auto sum = F::kHasMin ? Isa::zero() : mins;
    unrolled<kChunks>([&]<int kChunk>() __attribute__((always_inline)) {
      sum = Isa::scaled_dot(sum, codes[kChunk], Isa::load_bytes(a + 64 * kChunk), scales[kChunk]);
    });
    acc = acc + Isa::to_floats(sum) * Floats::all(d * da);
    if constexpr (F::kHasMin) acc = acc - Isa::to_floats(mins) * Floats::all(dmin * da);
  }
};

template <class F, class Isa>
requires kIsBlock32<F>
struct Unpacked<F, Isa> {
  typename Isa::Bytes codes[kChunks];
  typename Isa::Ints starts[kChunks];
  typename Isa::Octet d, min;

  KQ_INLINE static Unpacked of(const std::uint8_t* p) {
    Unpacked u;
    unrolled<kChunks>([&]<int kChunk>() __attribute__((always_inline)) {
      u.codes[kChunk] = signed_codes<F, Isa, kChunk>(p);
      u.starts[kChunk] = Isa::dot_start(u.codes[kChunk]);
    });
    u.d = block_scales<F, Isa>(p);
    if constexpr (F::kHasMin)
      u.min = block_mins<F, Isa>(p);
    else
      u.min = u.d;
    return u;
  }

  KQ_INLINE void multiply(const Column& column, std::size_t super,
                          typename Isa::Floats& acc) const {
    const std::uint8_t* a = column.codes + super * kSuper;
    const auto scale = Isa::multiply(d, Isa::load_octet(column.scales + 8 * super));
    unrolled<kChunks>([&]<int kChunk>() __attribute__((always_inline)) {
      const auto sum =
          Isa::dot_signed(starts[kChunk], codes[kChunk], Isa::load_bytes(a + 64 * kChunk));
      acc = acc + Isa::to_floats(sum) * Isa::template spread_octet<kChunk>(scale);
    });
    if constexpr (F::kHasMin)
      acc = acc - Isa::widen(Isa::multiply(min, Isa::load_octet(column.scaled_sums + 8 * super)));
  }
};

}  // namespace kquant::kernels
