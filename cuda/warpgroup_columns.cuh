#pragma once
// Y = X W^T for many rows of X on sm_90a: the tensor cores' asynchronous products, wgmma.
//
// A block has 256 rows of W (128 of plain weights) and 128 of X, two warpgroups of half the rows
// each and a warp that brings weights and X to shared memory by the copy engine. Operand A of
// wgmma, the weights, is in registers: the fragment of a warpgroup's warp is that of mma.m16n8k16,
// so that it is unpacked as everywhere else (unpack.hpp). Operand B is X, which has been written in
// tiles that lie in shared memory as they come (half_rows.hpp). The products of a chunk of 32
// columns run while the weights of the next chunk are unpacked into other registers: a group is
// waited for when the next has been issued, so that the tensor cores always have one before them.
//
//     registers   sums 2 x 64, fragments of two chunks 2 x 16, codes and scales of a step: 232 a
//                 thread, of which setmaxnreg takes from the warps that bring things
//     shared      X: 5 or 6 tiles of 16 KB; weights: 2 x 16 units: 43 KB (Q2_K), 74 (Q4_K), 139
//                 (Q8_0, with 5 tiles of X); a block an SM
//     in flight   all of that but what is multiplied: 100 to 150 KB
//     a chunk     of 256 x 128 x 32 is 512 clocks of the tensor cores (2048 products a clock). A
//                 warp has 64 x 32 weights of it to unpack; in the compiled code of Q4_K that and
//                 all else take 75 instructions (Q2_K 73, Q5_K 118, the most), and a scheduler has
//                 two such warps: 150 of its 512 slots. wgmma reads X's 8 KB once for each 64 rows,
//                 half of what shared memory gives in that time
//     L2          16 bytes of X and (Q4_K) 9 of weights a clock and SM, of about 30
//     limit       the tensor cores; a tile's results, 128 KB and some 2000 instructions a warp, are
//                 not overlapped: 5 to 10 % of the time at K = 4096
//
// Blocks stay and take pieces of the work in turn (division.hpp).

#include "cuda/half_rows.hpp"
#include "cuda/hopper.hpp"
#include "cuda/product.hpp"
#include "cuda/unpack.hpp"

namespace kquant::cuda {

template <class F>
struct WarpgroupColumns {
  static constexpr int kGroups = 2, kGroup = 4 * kWarp, kConsumers = kGroups * kGroup;
  static constexpr int kThreads = kConsumers + kGroup;
  static constexpr int kRegisters = 232, kBringerRegisters = 40;     ///< of the launch's 168
  static constexpr int kTileRows = DeviceLayout<F>::kPlain ? 1 : 2;  ///< of a group, 64 rows each
  static constexpr int kTiles = kGroups * kTileRows * 4;             ///< units of 16 rows
  static constexpr int kRows = kTiles * kUnitRows;
  static constexpr int kColumns = kTileTokens;
  static constexpr int kUnit = DeviceLayout<F>::kUnitBytes;
  static constexpr int kSums = kTileRows * 64;  ///< of a thread
  static constexpr std::size_t kBlockSums = std::size_t{kRows} * kColumns;

  static constexpr int kWeightBytes = kTiles * kUnit, kWeightStages = 2;
  static constexpr int kSlotBytes = kTileTokens * kTileColumns * 2;
  static constexpr int kSlots = kUnitCols / kTileColumns;  ///< of a unit
  static constexpr int kRoom = (227 << 10) - kWeightStages * kWeightBytes - 256;
  static constexpr int kStages = kRoom / kSlotBytes < 6 ? kRoom / kSlotBytes : 6;
  static_assert(kStages >= 4);

  static constexpr int kWeightsAt = kStages * kSlotBytes;  ///< slots are multiples of 1024
  static constexpr int kBarriersAt = kWeightsAt + kWeightStages * kWeightBytes;
  static constexpr std::size_t kShared = kBarriersAt + 256;

  struct Barriers {
    Barrier x_full[kStages], x_empty[kStages];
    Barrier weights_full[kWeightStages], weights_empty[kWeightStages];
    unsigned finished_before;
  };
  static_assert(sizeof(Barriers) <= 256);
  KQ_DEVICE static Barriers& barriers() {
    return *reinterpret_cast<Barriers*>(shared_memory() + kBarriersAt);
  }
};

/// A place in a ring of stages, and the parity of the round.
template <int kStages>
struct RingPlace {
  int stage = 0;
  unsigned round = 0;
  KQ_DEVICE void advance() {
    if (++stage < kStages) return;
    stage = 0;
    round ^= 1;
  }
};

/// One thread: all of this block's weights and X to shared memory, as stages become empty.
template <class F>
KQ_DEVICE void bring_operands(const Product& p) {
  using S = WarpgroupColumns<F>;
  auto& barriers = S::barriers();
  const int column_tiles = (p.columns + S::kColumns - 1) / S::kColumns;
  const int tiles = (p.rows + kUnitRows - 1) / kUnitRows;
  const auto units = static_cast<std::size_t>(p.units);
  RingPlace<S::kWeightStages> w;
  RingPlace<S::kStages> x;
  TilePiece piece{};
  for (TilePieces pieces(p.division, block().x); pieces.next(p.division, piece);) {
    const int first_tile = piece.tile / column_tiles * S::kTiles;
    const auto column_tile = static_cast<std::size_t>(piece.tile % column_tiles);
    for (int unit = piece.begin; unit < piece.end; ++unit) {
      wait(&barriers.weights_empty[w.stage], w.round ^ 1u);
      expect_bytes(&barriers.weights_full[w.stage], S::kWeightBytes);
      std::byte* to = shared_memory() + S::kWeightsAt + w.stage * S::kWeightBytes;
#pragma unroll 1
      for (int i = 0; i < S::kTiles; ++i) {
        // A tile beyond the last row is a copy of the last one; its results are not written.
        const int tile = first_tile + i < tiles ? first_tile + i : tiles - 1;
        copy_bulk(
            to + i * S::kUnit,
            p.weights + (static_cast<std::size_t>(tile) * units + static_cast<std::size_t>(unit)) *
                            S::kUnit,
            S::kUnit, &barriers.weights_full[w.stage]);
      }
      w.advance();
#pragma unroll 1
      for (int s = 0; s < S::kSlots; ++s) {
        wait(&barriers.x_empty[x.stage], x.round ^ 1u);
        expect_bytes(&barriers.x_full[x.stage], S::kSlotBytes);
        copy_bulk(shared_memory() + x.stage * S::kSlotBytes,
                  p.x + (column_tile * units * S::kSlots +
                         static_cast<std::size_t>(unit * S::kSlots + s)) *
                            (S::kSlotBytes / 2),
                  S::kSlotBytes, &barriers.x_full[x.stage]);
        x.advance();
      }
    }
  }
}

/// As add_up() of many_columns.cuh, for a tile that several blocks have pieces of.
template <class S>
KQ_DEVICE bool add_up_pieces(const Product& p, int tile, float (&sum)[S::kTileRows][64]) {
  const Division& division = p.division;
  const auto sums_of = [&](int b) {
    return p.partial + static_cast<std::size_t>(division.sums_of(b, tile)) * S::kBlockSums +
           thread();
  };
  float* const flat = &sum[0][0];
  float* const own = sums_of(block().x);
#pragma unroll
  for (int i = 0; i < S::kSums; ++i) own[i * S::kConsumers] = flat[i];
  sync_threads(1, S::kConsumers);
  unsigned& before = S::barriers().finished_before;
  unsigned* const ticket = p.tickets + (tile - division.whole);
  if (thread() == 0) before = take_ticket(ticket);
  sync_threads(1, S::kConsumers);
  const int first = division.first_owner(tile), last = division.last_owner(tile);
  if (before != static_cast<unsigned>(last - first)) return false;
  if (thread() == 0) *ticket = 0;
#pragma unroll
  for (int i = 0; i < S::kSums; ++i) flat[i] = 0;
#pragma unroll 1
  for (int b = first; b <= last; ++b) {
    const float* from = sums_of(b);
#pragma unroll
    for (int i = 0; i < S::kSums; ++i) flat[i] += from[i * S::kConsumers];
  }
  return true;
}

/// Two warpgroups: products of what has been brought.
template <class F>
KQ_DEVICE void multiply_pieces(const Product& p) {
  using S = WarpgroupColumns<F>;
  auto& barriers = S::barriers();
  const int column_tiles = (p.columns + S::kColumns - 1) / S::kColumns;
  const int g = lane() / 4, t = lane() % 4;
  // This warp's unit of its group's first 64 rows; that of the next 64 is 4 units further on.
  const int own_unit = warp() / 4 * S::kTileRows * 4 + warp() % 4;
  const auto release = [&](Barrier* barrier) {
    if (lane() == 0) arrive(barrier);
  };
  RingPlace<S::kWeightStages> stage;
  RingPlace<S::kStages> slot;
  ChunkFragments w[2][S::kTileRows];
  float sum[S::kTileRows][64];
  TilePiece piece{};
  for (TilePieces pieces(p.division, block().x); pieces.next(p.division, piece);) {
#pragma unroll
    for (int i = 0; i < S::kTileRows; ++i)
#pragma unroll
      for (float& x : sum[i]) x = 0;
    int former = -1;  // the slot whose products may still run
#pragma unroll 1
    for (int unit = piece.begin; unit < piece.end; ++unit) {
      wait(&barriers.weights_full[stage.stage], stage.round);
      const std::byte* at =
          shared_memory() + S::kWeightsAt + stage.stage * S::kWeightBytes + own_unit * S::kUnit;
      UnitReader<F> readers[S::kTileRows];
#pragma unroll
      for (int i = 0; i < S::kTileRows; ++i) readers[i].open(at + 4 * i * S::kUnit, lane());
#pragma unroll
      for (int s = 0; s < S::kSlots; ++s) {
#pragma unroll
        for (int i = 0; i < S::kTileRows; ++i) readers[i].load(at + 4 * i * S::kUnit, lane(), s);
        const std::uint64_t x = operand_rows(shared_memory() + slot.stage * S::kSlotBytes);
#pragma unroll
        for (int c = 0; c < 2; ++c) {
#pragma unroll
          for (int i = 0; i < S::kTileRows; ++i) w[c][i] = readers[i].chunk(s, c);
          if (c == 0) wait(&barriers.x_full[slot.stage], slot.round);
          fence_operands();
#pragma unroll
          for (int k = 0; k < 2; ++k)
#pragma unroll
            for (int i = 0; i < S::kTileRows; ++i)
              multiply_async(sum[i], w[c][i].a[k], advanced(x, 32 * c + 16 * k));
          commit_products();
          wait_products<1>();
          if (c == 0 && former >= 0) release(&barriers.x_empty[former]);
        }
        former = slot.stage;
        slot.advance();
      }
      sync_warp();  // all lanes have read their weights
      release(&barriers.weights_empty[stage.stage]);
      stage.advance();
    }
    wait_products<0>();
#pragma unroll
    for (int i = 0; i < S::kTileRows; ++i) settle(sum[i]);
    release(&barriers.x_empty[former]);

    const bool alone = piece.end - piece.begin == p.units;
    if (!alone && !add_up_pieces<S>(p, piece.tile, sum)) continue;
    const ResultRows<S::kTileRows, 64> rows(
        p, piece.tile / column_tiles * S::kRows + own_unit * kUnitRows + g);
    const int first_column = piece.tile % column_tiles * S::kColumns + 2 * t;
#pragma unroll
    for (int j = 0; j < 16; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        rows.put(p, first_column + 8 * j + e,
                 [&](int i, int h) { return sum[i][4 * j + 2 * h + e]; });
  }
}

template <class F>
KQ_KERNEL(WarpgroupColumns<F>::kThreads)
void warpgroup_columns(Product p) {
  if constexpr (kHasWarpgroups) {
    using S = WarpgroupColumns<F>;
    auto& barriers = S::barriers();
    if (thread() == 0) {
      constexpr int kConsumerWarps = S::kConsumers / kWarp;
      for (int i = 0; i < S::kStages; ++i) {
        init_barrier(&barriers.x_full[i], 1);
        init_barrier(&barriers.x_empty[i], kConsumerWarps);
      }
      for (int i = 0; i < S::kWeightStages; ++i) {
        init_barrier(&barriers.weights_full[i], 1);
        init_barrier(&barriers.weights_empty[i], kConsumerWarps);
      }
      publish_barriers();
    }
    sync_block();
    wait_for_previous_launches();
    if (thread() < S::kConsumers) {
      take_registers<S::kRegisters>();
      multiply_pieces<F>(p);
    } else {
      give_back_registers<S::kBringerRegisters>();
      if (thread() == S::kConsumers) bring_operands<F>(p);
    }
  }
}

}  // namespace kquant::cuda
