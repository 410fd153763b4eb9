#pragma once
// How a product's work is divided among blocks that stay (warpgroup_columns.cuh).
//
// Tiles of results, each over all units of K. Block b of B computes tiles b, b + B, … below `whole`
// alone. The tiles from there on are one sequence of units, tile after tile, of which each block
// has an equal share, wherever that begins and ends; a tile that several blocks have pieces of is
// added up, in the order of K, by the last one to finish.

#include <cstddef>

#include "kquant/base/macros.hpp"

namespace kquant::cuda {

struct Division {
  int tiles = 0, units = 0;
  int blocks = 1;
  int whole = 0;  ///< tiles that no blocks share

  KQ_HOST_DEVICE constexpr int shared_units() const { return (tiles - whole) * units; }
  /// First of block b's units of the sequence.
  KQ_HOST_DEVICE constexpr int share_begin(int b) const {
    return static_cast<int>(static_cast<long long>(shared_units()) * b / blocks);
  }
  /// The block that unit `i` of the sequence belongs to.
  KQ_HOST_DEVICE constexpr int owner(int i) const {
    return static_cast<int>(((i + 1LL) * blocks - 1) / shared_units());
  }
  KQ_HOST_DEVICE constexpr int first_owner(int tile) const { return owner((tile - whole) * units); }
  KQ_HOST_DEVICE constexpr int last_owner(int tile) const {
    return owner((tile - whole + 1) * units - 1);
  }
  /// Where block b leaves its sums of a tile: it has at most one piece that begins in the middle of
  /// K, and one that begins at 0 and does not reach the end.
  KQ_HOST_DEVICE constexpr int sums_of(int b, int tile) const {
    return 2 * b + (share_begin(b) <= (tile - whole) * units ? 1 : 0);
  }
};

/// Units begin … end - 1 of a tile.
struct TilePiece {
  int tile, begin, end;
};

/// A block's pieces, one after the other.
class TilePieces {
 public:
  KQ_HOST_DEVICE constexpr TilePieces(const Division& d, int b)
      : whole_(b), at_(d.share_begin(b)), end_(d.share_begin(b + 1)) {}

  KQ_HOST_DEVICE constexpr bool next(const Division& d, TilePiece& piece) {
    if (whole_ < d.whole) {
      piece = {whole_, 0, d.units};
      whole_ += d.blocks;
      return true;
    }
    if (at_ >= end_) return false;
    const int tile = at_ / d.units, begin = at_ - tile * d.units;
    const int left = begin + end_ - at_;
    piece = {d.whole + tile, begin, left < d.units ? left : d.units};
    at_ += piece.end - begin;
    return true;
  }

 private:
  int whole_, at_, end_;
};

/// Leaving a block's sums in device memory and adding up those of others takes about as long as so
/// many units of a tile: two times 128 KB written and two or three read at some 20 bytes a clock,
/// where a unit takes 4096 clocks. On paper; to be measured.
inline constexpr int kUnitsOfSums = 6;

/// Shares tiles where blocks that would have nothing to do in the last round cost more than that,
/// and no tile among more blocks than the root of its units: one block reads what they leave.
constexpr Division divide(int tiles, int units, int multiprocessors) {
  const int rounds = (tiles + multiprocessors - 1) / multiprocessors;
  const long long idle = static_cast<long long>(rounds) * multiprocessors - tiles;
  Division out{tiles, units, tiles < multiprocessors ? tiles : multiprocessors, tiles};
  if (idle * units <= static_cast<long long>(kUnitsOfSums) * multiprocessors) return out;
  int parts = 1;
  while ((parts + 1) * (parts + 1) <= units) ++parts;
  if (out.blocks < multiprocessors)
    out.blocks = tiles * parts < multiprocessors ? tiles * parts : multiprocessors;
  out.whole = rounds > 2 ? (rounds - 2) * multiprocessors : 0;
  return out;
}

}  // namespace kquant::cuda
