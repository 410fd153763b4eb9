#pragma once
// Rows of packed weights to floats, bit for bit as dequantize_block (format/run.hpp).
//
// A store-bound loop: per 16 weights one extraction, one widening, one conversion, one multiply
// (and one subtraction), 64 bytes written.

#include "kernels/unpack.hpp"

namespace kquant::kernels {

template <class F, class Isa>
KQ_INLINE void dequantize_super(const std::uint8_t* p, float* out) {
  float scales[kQuarters], mins[kQuarters];  // of each quarter: d * scale, dmin * min
  if constexpr (kIsBlock32<F>) {
    float d[8], m[8] = {};
    Isa::store_octet(block_scales<F, Isa>(p), d);
    if constexpr (F::kHasMin) Isa::store_octet(block_mins<F, Isa>(p), m);
    for (int t = 0; t < kQuarters; ++t) {
      scales[t] = d[t / 2];
      mins[t] = m[t / 2];
    }
  } else {
    const auto& block = *reinterpret_cast<const typename F::Block*>(p);
    const auto sub = F::unpack_scales(block);
    const float d = F::d(block), dmin = F::dmin(block);
    for (int t = 0; t < kQuarters; ++t) {
      const int s = 16 * t / F::kSub;
      scales[t] = d * static_cast<float>(sub.scale_at(s));
      mins[t] = F::kHasMin ? dmin * static_cast<float>(sub.min_at(s)) : 0.0f;
    }
  }
  unrolled<kChunks>([&]<int kChunk>() __attribute__((always_inline)) {
    const auto codes = signed_codes<F, Isa, kChunk>(p);
    unrolled<4>([&]<int kQuarter>() __attribute__((always_inline)) {
      constexpr int kAt = 4 * kChunk + kQuarter;
      using Floats = typename Isa::Floats;
      Floats value = Floats::all(scales[kAt]) * Isa::template quarter<kQuarter>(codes);
      if constexpr (F::kHasMin) value = value - Floats::all(mins[kAt]);
      value.store(out + 16 * kAt);
    });
  });
}

/// Precondition: cols is a multiple of F::kBlock.
template <class F, class Isa>
void dequantize_row(const std::byte* row, std::size_t cols, float* out) noexcept {
  const auto* p = reinterpret_cast<const std::uint8_t*>(row);
  for (; cols >= kSuper; cols -= kSuper, p += kSuperBytes<F>, out += kSuper)
    dequantize_super<F, Isa>(p, out);
  for (; cols > 0; cols -= F::kBlock, p += sizeof(typename F::Block), out += F::kBlock)
    dequantize_block<F>(*reinterpret_cast<const typename F::Block*>(p), out);
}

/// Plain elements.
template <class F, class Isa>
void dequantize_plain_row(const std::byte* row, std::size_t cols, float* out) noexcept {
  const auto* p = reinterpret_cast<const typename F::Element*>(row);
  std::size_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) Isa::load(p + i).store(out + i);
  for (; i < cols; ++i) out[i] = F::value(p[i]);
}

}  // namespace kquant::kernels
