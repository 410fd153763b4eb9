#pragma once
// Activations on their way into a product: rows of binary16, and in which order they lie in memory.

#include <cstddef>
#include <cstdint>

#include "cuda/layout.hpp"
#include "kquant/base/macros.hpp"

namespace kquant::cuda {

/// Columns come in the order in which weights meet them (layout.hpp): of each 256, eight of every
/// quarter, then the next eight of every quarter.
///
/// kRows: one row after the other, as few_columns.cuh and many_columns.cuh read them. kTiles: as
/// wgmma wants its operand B in shared memory (warpgroup_columns.cuh), so that a bulk copy brings
/// in a whole tile as it is:
///
///     tiles of 128 rows x 64 such columns, those of the same rows one after the other;
///     in a tile, 128 bytes a row, of which piece i (16 bytes) lies at place i xor row % 8;
///     in each chunk of 32 columns, taken as 4 x 4 pairs, rows and columns of pairs exchanged.
///
/// The last is because a lane's weights (layout.hpp) are eight columns side by side, where wgmma
/// has it hold columns 2t, 2t + 1, 2t + 8 and 2t + 9 of 16.
enum class RowOrder { kRows, kTiles };

inline constexpr int kTileTokens = 128, kTileColumns = 64;

/// Rows of `cols` binary16 numbers, `padded` (a multiple of 256) apart, zeros in between, each row
/// times its scale. In tiles the number of rows is completed to a multiple of 128 with anything.
struct HalfRows {
  std::uint16_t* data = nullptr;
  float* scale = nullptr;
  int cols = 0, padded = 0;
  RowOrder order = RowOrder::kRows;

  /// Where the number is that meets column weight_col of W.
  KQ_HOST_DEVICE constexpr std::size_t at(int row, int weight_col) const {
    return at_place(row, place_of(row, weight_col));
  }
  /// Where a row's number `place` is, in the order in which they lie: 64 of a multiple of 64 on
  /// side by side.
  KQ_HOST_DEVICE constexpr std::size_t at_place(int row, int place) const {
    if (order == RowOrder::kRows)
      return static_cast<std::size_t>(row) * static_cast<std::size_t>(padded) +
             static_cast<std::size_t>(place);
    return (static_cast<std::size_t>(row / kTileTokens) *
                static_cast<std::size_t>(padded / kTileColumns) +
            static_cast<std::size_t>(place / kTileColumns)) *
               (kTileTokens * kTileColumns) +
           static_cast<std::size_t>(row % kTileTokens * kTileColumns + place % kTileColumns);
  }
  KQ_HOST_DEVICE constexpr int place_of(int row, int weight_col) const {
    const int quarter = weight_col % kUnitCols / kQuarter, in_quarter = weight_col % kQuarter;
    const int col = weight_col / kUnitCols * kUnitCols + in_quarter / kChunk * (4 * kChunk) +
                    quarter * kChunk + in_quarter % kChunk;
    if (order == RowOrder::kRows) return col;
    const int turned = turned_pair(col % 32 / 2);
    const int piece = (col % kTileColumns / 32 * 4 + turned / 4) ^ (row % 8);
    return col / kTileColumns * kTileColumns + piece * 8 + turned % 4 * 2 + col % 2;
  }
  /// The column of W that number `place` of a row meets.
  KQ_HOST_DEVICE constexpr int column_at(int row, int place) const {
    int col = place;
    if (order == RowOrder::kTiles) {
      const int piece = place % kTileColumns / 8 ^ (row % 8);
      const int pair = turned_pair(piece % 4 * 4 + place % 8 / 2);
      col = place / kTileColumns * kTileColumns + piece / 4 * 32 + pair * 2 + place % 2;
    }
    const int in_unit = col % kUnitCols;
    return col / kUnitCols * kUnitCols + in_unit / kChunk % 4 * kQuarter +
           in_unit / (4 * kChunk) * kChunk + in_unit % kChunk;
  }

 private:
  /// Of 4 x 4 pairs, with rows and columns exchanged; its own inverse.
  KQ_HOST_DEVICE static constexpr int turned_pair(int pair) { return pair % 4 * 4 + pair / 4; }
};

}  // namespace kquant::cuda
