// How a product is divided among blocks: every unit of every tile once, and where sums are left.
#include "cuda/division.hpp"

#include <catch2/catch.hpp>
#include <map>
#include <set>

using namespace kquant::cuda;

namespace {

struct Owned {
  int block;
  TilePiece piece;
};

void check(const Division& d) {
  INFO(d.tiles << " tiles of " << d.units << " units, " << d.blocks << " blocks, " << d.whole
               << " whole");
  std::map<int, std::vector<Owned>> of_tile;
  for (int b = 0; b < d.blocks; ++b) {
    TilePiece piece{};
    for (TilePieces pieces(d, b); pieces.next(d, piece);) of_tile[piece.tile].push_back({b, piece});
  }
  REQUIRE(of_tile.size() == static_cast<std::size_t>(d.tiles));
  std::set<int> sums;
  for (const auto& [tile, pieces] : of_tile) {
    REQUIRE(tile >= 0);
    REQUIRE(tile < d.tiles);
    int at = 0;
    for (const Owned& owned : pieces) {
      REQUIRE(owned.piece.begin == at);
      REQUIRE(owned.piece.end > at);
      at = owned.piece.end;
    }
    REQUIRE(at == d.units);
    if (pieces.size() == 1) continue;
    REQUIRE(tile >= d.whole);
    REQUIRE(d.first_owner(tile) == pieces.front().block);
    REQUIRE(d.last_owner(tile) == pieces.back().block);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      REQUIRE(pieces[i].block == pieces.front().block + static_cast<int>(i));
      const int place = d.sums_of(pieces[i].block, tile);
      REQUIRE(place < 2 * d.blocks);
      REQUIRE(sums.insert(place).second);
    }
  }
}

}  // namespace

TEST_CASE("a division has every unit once, in the order of K") {
  for (const int multiprocessors : {1, 4, 5, 132})
    for (const int tiles : {1, 2, 3, 7, 16, 64, 131, 132, 133, 263, 264, 300, 1000})
      for (const int units : {1, 2, 3, 10, 16, 56, 112}) {
        const Division d = divide(tiles, units, multiprocessors);
        check(d);
        REQUIRE(d.blocks <= multiprocessors);
        REQUIRE(d.tiles - d.whole <= 2 * multiprocessors);  // tickets
        Division shared = d;                                // also where it would not pay
        shared.whole = 0;
        check(shared);
      }
}

TEST_CASE("tiles are shared where blocks would have nothing to do, and not where that costs more") {
  REQUIRE(divide(132, 16, 132).whole == 132);
  REQUIRE(divide(264, 56, 132).whole == 264);
  REQUIRE(divide(64, 56, 132).whole == 0);
  REQUIRE(divide(64, 56, 132).blocks == 132);
  REQUIRE(divide(100, 16, 132).whole == 100);  // 32 idle blocks of 16 units: less than the sums
  REQUIRE(divide(448, 56, 132).whole == 264);  // two rounds alone, 184 tiles shared
  REQUIRE(divide(16, 16, 132).blocks == 64);   // not more than 4 pieces of 16 units
}
