#pragma once
// Activations to int8: groups of 256 (k-quants) or 32 (block32 formats) consecutive columns share
// one binary32 scale,
//
//     scale = max|x| / 127        code = round(x / scale), ties to even: -127 … 127
//
// and the sums of codes that zero points and mins are multiplied by. A group that holds NaN or Inf
// gets scale NaN and codes 0, so that the outputs of that row become NaN; a group below 127 *
// FLT_MIN is 0. Integer codes are the same on every ISA.

#include <cfloat>

#include "kernels/isa/lanes.hpp"
#include "kernels/table.hpp"
#include "kernels/unpack.hpp"

namespace kquant::kernels {

template <class Isa>
KQ_INLINE float largest(typename Isa::Floats a) {
  float lanes[kLanes];
  a.store(lanes);
  float most = lanes[0];
  for (int i = 1; i < kLanes; ++i) most = lanes[i] > most ? lanes[i] : most;
  return most;
}

/// One group; returns its scale. `sums` gets the sum of each 16 codes.
template <class Isa, int kGroup, std::uint8_t kFlip>
KQ_INLINE float quantize_group(const float* x, std::uint8_t* codes, std::int16_t* sums) {
  using Floats = typename Isa::Floats;
  constexpr int kParts = kGroup / kLanes;
  Floats most = Floats::all(0.0f), probe = Floats::all(0.0f);
  for (int i = 0; i < kParts; ++i) {
    const Floats v = Isa::load(x + kLanes * i);
    most = larger(magnitude(v), most);
    probe = probe + v * Floats::all(0.0f);  // NaN once anything is not finite
  }
  float scale = largest<Isa>(most) / 127.0f;
  const bool finite = Isa::reduce_add(probe) == 0.0f;
  if (!finite || !(scale >= FLT_MIN)) {
    for (int i = 0; i < kGroup; ++i) codes[i] = kFlip;
    for (int i = 0; i < kParts; ++i) sums[i] = 0;
    return finite ? 0.0f : __builtin_nanf("");
  }
  const Floats inverse = Floats::all(1.0f / scale), magic = Floats::all(kRoundMagic);
  for (int i = 0; i < kParts; ++i) {
    const Floats code = (Isa::load(x + kLanes * i) * inverse + magic) - magic;
    Isa::store_codes(code, codes + kLanes * i);
    sums[i] = static_cast<std::int16_t>(static_cast<int>(Isa::reduce_add(code)));
  }
  if constexpr (kFlip != 0)
    for (int i = 0; i < kGroup; ++i) codes[i] = static_cast<std::uint8_t>(codes[i] ^ kFlip);
  return scale;
}

/// Precondition: cols is a multiple of kGroup; out.padded of 256.
template <class Isa, int kGroup>
void quantize_activations(const float* x, std::size_t x_stride, std::size_t cols, std::size_t first,
                          std::size_t count, const Activations& out) noexcept {
  constexpr bool kPer32 = kGroup == 32;
  constexpr std::uint8_t kFlip = kPer32 ? Isa::kActivationFlip : 0;
  const std::size_t n_groups = cols / kGroup, n_padded = out.padded / kGroup;
  for (std::size_t m = first; m < first + count; ++m) {
    std::uint8_t* codes = out.codes + m * out.padded;
    float* scales = out.scales + m * n_padded;
    for (std::size_t g = 0; g < n_groups; ++g) {
      const float* group = x + m * x_stride + g * kGroup;
      if constexpr (kPer32) {
        std::int16_t sums[2];
        scales[g] = quantize_group<Isa, kGroup, kFlip>(group, codes + g * kGroup, sums);
        out.scaled_sums[m * n_padded + g] = scales[g] * static_cast<float>(sums[0] + sums[1]);
      } else {
        scales[g] = quantize_group<Isa, kGroup, kFlip>(group, codes + g * kGroup,
                                                       out.sums16 + m * (out.padded / 16) + g * 16);
      }
    }
    if constexpr (kPer32) {
      for (std::size_t g = n_groups; g < n_padded; ++g) scales[g] = 0.0f;
      for (std::size_t g = n_groups; g < n_padded; ++g) out.scaled_sums[m * n_padded + g] = 0.0f;
      for (std::size_t i = cols; i < out.padded; ++i) codes[i] = kFlip;
    }
  }
}

}  // namespace kquant::kernels
