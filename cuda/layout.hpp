#pragma once
// Weights on a device: the bytes of the file in another order, in which a warp's lanes read 16
// bytes each, side by side, and what a lane has read are the very weights that its tensor-core
// fragments hold.
//
// A unit is 16 rows x 256 columns (rows and columns that are missing are zeros), contiguous, units
// of 16 rows one after the other from the first column to the last:
//
//     | codes                          | scales              | factors                      |
//     | kBits x 32 lanes x 16 bytes    | 16 rows x field sc  | 16 rows x blocks x d[, -dmin] |
//
// A unit has exactly as many bytes as 16 x 256 weights in the file.
//
// Lane 4g + t holds a quarter of each of rows g and g + 8: columns 64t … 64t + 63, so that it needs
// a quarter of their scales, each for 16 columns or more. The order of columns within a product is
// free as long as activations have the same (half_rows.hpp). A quarter is eight chunks of eight
// columns; two chunks of every lane are one step, K = 64 of a product. Codes go in pairs, of
// columns 8c + 2p and 8c + 2p + 1 of the quarter.
//
// A plane of B bits a code is B vectors of 32 x 16 bytes. Pair p of a chunk is in word p of a
// vector, the first code 16 bits below the second: with all other bits masked away, both halves are
// binary16 numbers as they are, a code at bit b of the mantissa being worth code x 2^(b - 24). So
// the fewest instructions are spent where codes lie in the lowest 10 bits, or 8 bits above:
//
//     bits of a half     15 … 8      7 … 0
//     2-bit plane        6'6 4'4     2'2 0'0     two bits a chunk; even ones: vector 0, odd ones: 1
//     4-bit plane          4'4         0'0       … vector c mod 4
//     8-bit plane           0'          0        … vector c
//
// where numbers are chunks, of row g and (') of row g + 8. Bits that complete such codes lie in a
// second plane as far from each other as every other field of the first, so that one shift of a
// word brings those of two or four codes to where the low ones end, and one bitwise selection
// merges them. Of 3 bits:
//
//     first plane, row g       ..66 ..44 ..22 ..00     of row g + 8: after a shift by 2
//     second plane             dcba dcba dcba dcba     a: even, b: odd chunks of row g; c, d: g + 8
//     moved up by 2            .6.. .4.. .2.. .0..     so that a is above the low bits
//     selected                 .666 .444 .222 .000     and, where the dots are, what is masked away
//
//     bits      2    3    4    5    6    8    16
//     planes    2   2+1   4   4+1  4+2   8    16
//
// Codes are unsigned (Q8_0: + 128). Plain types are stored as binary16, 16 bits a code. d and dmin
// of a row are multiplied by a power of two, the same for the whole row, which makes the largest
// scale nearly as large as binary16 allows; its inverse, times 2^24, multiplies the row's results.
// That is exact but for rows whose factors differ by more than 2^15. dmin is stored as what is
// multiplied by the min and added: - dmin, but + dmin where F::unpack_scales() has the min - 1.

#include "kquant/format/all.hpp"

namespace kquant::cuda {

inline constexpr int kUnitRows = 16, kUnitCols = 256;
inline constexpr int kQuarter = kUnitCols / 4;  ///< columns of a lane
inline constexpr int kChunk = 8;                ///< of them
inline constexpr int kStepChunks = 2;
inline constexpr int kSteps = kQuarter / (kChunk * kStepChunks);
inline constexpr int kStepCols = kUnitCols / kSteps;  ///< of all lanes
inline constexpr int kVector = 32 * 16;               ///< bytes that a warp reads at once

/// Where a weight of a unit is.
struct Place {
  int lane, chunk, h, pair, half;  ///< h: row g or g + 8; half: which of the pair
};
KQ_HOST_DEVICE constexpr Place place_of(int row, int col) {
  return {.lane = row % 8 * 4 + col / kQuarter,
          .chunk = col % kQuarter / kChunk,
          .h = row / 8,
          .pair = col % kChunk / 2,
          .half = col % 2};
}

/// Where the bits of a pair of codes are in a plane: in which vector, in which of a lane's four
/// words of it, at which bit of each half.
struct Field {
  int vector, word, bit;
};
/// Of `bits` bits, on their own or above `below` bits that are in another plane.
KQ_HOST_DEVICE constexpr Field field(int bits, int below, int chunk, int h, int pair) {
  if (bits == 16) return {2 * chunk + pair / 2, pair % 2 * 2 + h, 0};  // fragments as they are
  if (below == 0) return {chunk % bits, pair, bits * (2 * (chunk / bits) + h)};
  // Two fields of the other plane are as wide as those here of both rows and of all its vectors
  // that share one here.
  const int vectors = below / bits;
  return {chunk % bits, pair,
          2 * below * (chunk / below) + bits * (h * vectors + chunk % below / bits)};
}

/// What is common to a format's layout; F is a block format, or F16 for all plain types.
template <class F>
struct DeviceLayout {
  static constexpr bool kPlain = false;
  static constexpr int kBits = F::kBits;
  static constexpr int kLowBits = kBits >= 8 ? 8 : kBits >= 4 ? 4 : 2;
  static constexpr int kHighBits = kBits - kLowBits;
  static_assert(kHighBits >= 0 && kHighBits <= 2);
  static constexpr int kZero = F::kSigned ? 128 : F::kZero;
  static constexpr float kCodeUnit = 0x1p-24f;  ///< of a code as the mantissa of a binary16 number
  static constexpr int kBlocks = kUnitCols / F::kBlock;  ///< of a row
  static constexpr int kFactors = F::kHasMin ? 2 : 1;    ///< of a block
  static constexpr int kScaleWords =
      (static_cast<int>(sizeof(typename F::Block)) - F::kBlock * F::kBits / 8 - 2 * kFactors) / 4;

  static constexpr int kScalesAt = kBits * kVector;
  static constexpr int kRowScales = kBlocks * kScaleWords * 4;  ///< bytes of a row
  static constexpr int kFactorsAt = kScalesAt + kUnitRows * kRowScales;
  static constexpr int kRowFactors = kBlocks * kFactors * 2;
  static constexpr int kUnitBytes = kFactorsAt + kUnitRows * kRowFactors;
  static_assert(kUnitBytes == kUnitRows * kBlocks * static_cast<int>(sizeof(typename F::Block)));
  static_assert(kUnitBytes % 16 == 0 && kFactorsAt % 16 == 0);
};

template <>
struct DeviceLayout<F16> {
  static constexpr bool kPlain = true;
  static constexpr int kBits = 16, kLowBits = 16, kHighBits = 0;
  static constexpr int kUnitBytes = kBits * kVector;
};

/// All that a device computes with: fn.operator()<F>().
using DeviceFormats = FormatList<Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, F16>;

/// The format that a matrix of this type has on a device: plain types become F16.
constexpr TensorType device_type(TensorType type) {
  return type_info(type).support == Support::kPlain ? TensorType::F16 : type;
}

/// Byte of a unit where the word begins.
KQ_HOST_DEVICE constexpr int word_at(int plane_at, Field field, int lane) {
  return plane_at + field.vector * kVector + lane * 16 + field.word * 4;
}

}  // namespace kquant::cuda
