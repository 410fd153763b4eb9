#pragma once
// The vocabulary every instruction set speaks. Kernels are written once over it.
//
// The unit of work is a chunk of 64 weights, in four quarters of 16:
//
//     Bytes   64 codes                    |   quarter 0   |   quarter 1   |     2     |     3     |
//     Ints    16 int32 sums of products   lane L belongs to codes 4L … 4L + 3
//     Words   32 int16 scales             word w belongs to codes 2w, 2w + 1
//     Sums    16 int16                    one per quarter of a super-block of 256 (four chunks)
//     Floats  16 floats (isa/lanes.hpp)
//     Octet   8 floats                    one per block of 32 of a super-block
//
// A register of AVX-512 holds a chunk; narrower ISAs use several, so that lanes mean the same
// everywhere.
//
// Every function is KQ_INLINE: nothing of an ISA header may survive as a symbol.

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "kquant/base/half.hpp"
#include "kquant/base/macros.hpp"
#include "kquant/dispatch.hpp"
#include "kquant/format/run.hpp"

namespace kquant::kernels {

/// Where the bytes of a chunk lie and which bits of them count: quarter t is the 16 bytes from
/// at[t] on, shifted left by move[t] (right if negative) within the byte, then masked.
struct Plane {
  int at[4];
  int move[4];
  int mask;
};

/// One bit a weight: quarter t is the 16 bits (little-endian) at at[t]; bits land at `up`.
struct BitPlane {
  int at[4];
  int up;
};

template <class I>
concept KernelIsa = requires(const std::uint8_t* p, const std::uint32_t* words,
                             const std::int16_t* sums, const float* x, float* out,
                             std::uint8_t* codes, typename I::Bytes bytes, typename I::Ints ints,
                             typename I::Words scales, typename I::Sums quarters,
                             typename I::Floats floats, typename I::Octet octet,
                             typename I::Rows::Float row, const Half* half, const BFloat16* bfloat,
                             const std::int8_t* int8, Half* half_out) {
  { I::kIsa } -> std::convertible_to<Isa>;
  { I::kName } -> std::convertible_to<const char*>;
  { I::kColumns } -> std::convertible_to<int>;  // rows of X that meet a row of W at once: 1, 4, 8
  // What quantized activations of block32 formats are XORed with: 0x80 makes them unsigned.
  { I::kActivationFlip } -> std::convertible_to<std::uint8_t>;

  // Codes. (plane<Plane>(p) and bit_plane<BitPlane>(p) -> Bytes cannot be named here.)
  { I::load_bytes(p) } -> std::same_as<typename I::Bytes>;
  { I::merge(bytes, bytes) } -> std::same_as<typename I::Bytes>;  // or
  { I::subtract(bytes, 1) } -> std::same_as<typename I::Bytes>;
  { I::template quarter<0>(bytes) } -> std::same_as<typename I::Floats>;  // int8 -> float

  // Integer sub-block scales (and mins) of a super-block, one a quarter; kSubs of them in `words`.
  { I::template sub_words<8>(words) } -> std::same_as<typename I::Sums>;
  { I::times(quarters, 1) } -> std::same_as<typename I::Sums>;
  { I::template spread<0>(quarters) } -> std::same_as<typename I::Words>;  // those of chunk 0

  // Products, exact in int32.
  { I::zero() } -> std::same_as<typename I::Ints>;
  // acc + scale * (unsigned code * signed activation); codes <= 63, so that pairs fit int16.
  { I::scaled_dot(ints, bytes, bytes, scales) } -> std::same_as<typename I::Ints>;
  // Signed codes times signed activations (flipped by kActivationFlip), from dot_start(codes) on.
  { I::dot_start(bytes) } -> std::same_as<typename I::Ints>;
  { I::dot_signed(ints, bytes, bytes) } -> std::same_as<typename I::Ints>;
  // Sums of adjacent products in lanes 0 … 7, zero above.
  { I::sums_dot(quarters, sums) } -> std::same_as<typename I::Ints>;

  // Floats.
  { I::to_floats(ints) } -> std::same_as<typename I::Floats>;
  { I::load(x) } -> std::same_as<typename I::Floats>;
  { I::load(half) } -> std::same_as<typename I::Floats>;
  { I::load(bfloat) } -> std::same_as<typename I::Floats>;
  { I::load(int8) } -> std::same_as<typename I::Floats>;
  {
    I::multiply_add(floats, floats, floats)
    } -> std::same_as<typename I::Floats>;  // a + b * c, fused
  {I::store_half(floats, half_out)};
  {I::store_codes(floats, codes)};  // integral lanes in -127 … 127 -> int8
  // ((0+8) + (4+12)) + ((2+10) + (6+14)) + the same of odd lanes; see reduce_add in scalar.hpp
  { I::reduce_add(floats) } -> std::same_as<float>;
  { I::to_float(*half) } -> std::same_as<float>;
  { I::square_root(1.0f) } -> std::same_as<float>;

  // One float per block of 32.
  { I::template halves<18>(p) } -> std::same_as<typename I::Octet>;  // `stride` bytes apart
  { I::load_octet(x) } -> std::same_as<typename I::Octet>;
  { I::multiply(octet, octet) } -> std::same_as<typename I::Octet>;
  {I::store_octet(octet, out)};
  { I::widen(octet) } -> std::same_as<typename I::Floats>;                     // zeros above
  { I::template spread_octet<0>(octet) } -> std::same_as<typename I::Floats>;  // blocks 2j, 2j + 1

  // Lanes are rows: see isa/rows.hpp.
  { I::kCentersBytes } -> std::convertible_to<bool>;
  { I::kPremultiplies } -> std::convertible_to<bool>;
  { I::kPairsSums } -> std::convertible_to<bool>;
  { I::kScalesInDot } -> std::convertible_to<bool>;
  { I::kSharesActivations } -> std::convertible_to<bool>;
  { I::row_halves(p) } -> std::same_as<typename I::Rows::Float>;
  { I::multiply_add(row, row, row) } -> std::same_as<typename I::Rows::Float>;
};

}  // namespace kquant::kernels
