#pragma once
// Weights on a device: the bytes of the file in another order, in which a warp's lanes read 16
// bytes each, side by side, and what a lane has read are the very weights that its tensor-core
// fragment holds.
//
// A unit is 16 rows x 256 columns (rows and columns that are missing are zeros), contiguous, units
// of 16 rows one after the other from the first column to the last:
//
//     | codes                          | scales              | factors                    |
//     | kBits x 32 lanes x 16 bytes    | 16 rows x field sc  | 16 rows x blocks x d[, dmin] |
//
// A unit has exactly as many bytes as 16 x 256 weights in the file.
//
// Lane 4g + t holds, of each chunk of 32 columns, columns 8t … 8t + 7 of rows g and g + 8: the
// order of columns within a product is free as long as activations have the same. Its codes are
// taken in pairs (columns 2p, 2p + 1). Pair p of row half h of chunk c is
//
//     slot s = 8c + 4h + p,   0 <= s < 64
//
// A plane of B bits a code is B vectors of 32 x 16 bytes. Of a lane's 4 B words, word s / (16 / B)
// holds slot s: the first code of the pair at bit B (s mod (16 / B)), the second 16 bits above, so
// that one shift and one mask put both where two binary16 numbers have their mantissas.
//
//     bits      2    3    4    5    6    8    16
//     planes    2   2+1   4   4+1  4+2   8    16
//
// Codes are unsigned (Q8_0: + 128). Plain types are stored as binary16, 16 bits a code. d and dmin
// of a row are multiplied by a power of two, the same for the whole row, which brings its weights
// into the range where binary16 is precise; its inverse multiplies the row's results. That is exact
// but for rows whose largest weight exceeds 2^15 or whose factors differ by more than 2^15.

#include "kquant/format/all.hpp"

namespace kquant::cuda {

inline constexpr int kUnitRows = 16, kUnitCols = 256;
inline constexpr int kChunk = 32;                   ///< columns
inline constexpr int kChunks = kUnitCols / kChunk;  ///< of a unit
inline constexpr int kVector = 32 * 16;             ///< bytes that a warp reads at once

/// Where a weight of a unit is.
struct Slot {
  int lane, slot, half;  ///< half: which of the pair
};
KQ_HOST_DEVICE constexpr Slot slot_of(int row, int col) {
  const int chunk = col / kChunk, t = col % kChunk / 8, j = col % 8;
  return {.lane = row % 8 * 4 + t, .slot = 8 * chunk + 4 * (row / 8) + j / 2, .half = j % 2};
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

/// Byte of a unit where the word with this slot of a plane begins.
KQ_HOST_DEVICE constexpr int word_at(int plane_at, int bits, int lane, int slot) {
  const int word = slot / (16 / bits);
  return plane_at + word / 4 * kVector + lane * 16 + word % 4 * 4;
}
KQ_HOST_DEVICE constexpr int shift_of(int bits, int slot) {
  return bits * (slot % (16 / bits));
}

}  // namespace kquant::cuda
