#pragma once
// Y = X W^T for more rows of X than few_columns.cuh serves: up to 32 limited by the memory that
// weights are read from, beyond that by the tensor cores.
//
// A block of 4 warps has 128 rows of W (64 of plain weights) and kColumns rows of X. W and X pass
// through shared memory by cp.async: units of W, and X in slots, of a unit's columns up to 32 rows
// of X and of 64 columns beyond. Each warp turns its own rows into binary16 fragments, once, and
// multiplies them with all of X's slot; no weight is ever written in a larger form.
//
//     registers   accumulators kTileRows x kColumns / 8 x 4 = 128 at 128 columns; 16 of fragments
//     shared      rings of 2 to 4 units and slots: 56 to 84 KB at 16 columns, to 100 KB at 32; at
//                 128 two units and three slots: 70 KB (Q2_K), 85 (Q4_K), 118 (Q8_0)
//     16 and 32   in flight: all of the ring but what is multiplied, 28 KB and more, of two blocks
//                 an SM; 1.9 (Q4_0) to 3.5 (Q5_K) instructions a weight. X comes from L2 once for
//                 128 rows of W: 16 rows of X are 8 KB a unit, beside 18 KB of Q4_K
//     128         a step of 64 x 32 rows a warp: 128 mma, and in the compiled code 170 to 300 other
//                 instructions, so one or two beside each mma; and 32 reads of 512 bytes, 16 KB:
//                 half of what shared memory gives in that time on sm_80
//     limit       the rate of mma.sync: all of it on sm_80, two thirds of wgmma's on sm_90
//
// Where rows and columns make too few blocks for the device, K is divided among gridDim.z blocks:
// each but the last to finish leaves its sums in device memory, the last adds all of them in order.

#include "cuda/product.hpp"
#include "cuda/unit_copies.hpp"
#include "cuda/unpack.hpp"

namespace kquant::cuda {

template <class F, int kColumns>
struct ManyColumns {
  static constexpr int kWarps = 4, kThreads = kWarps * kWarp;
  static constexpr int kTileRows = DeviceLayout<F>::kPlain ? 1 : 2;  ///< of a warp, 16 rows each
  static constexpr int kTiles = kWarps * kTileRows;
  static constexpr int kRows = kTiles * kUnitRows;
  static constexpr int kUnit = DeviceLayout<F>::kUnitBytes;
  static constexpr int kTiles8 = kColumns / 8;
  static constexpr int kWeightBytes = kTiles * kUnit;          ///< of a unit of the block
  static constexpr int kStepBytes = kColumns * kStepCols * 2;  ///< of X, of a step
  static constexpr bool kNarrow = kColumns <= 32;
  static constexpr int kSlotSteps = kNarrow ? kSteps : 1;
  static constexpr int kSlots = kSteps / kSlotSteps;  ///< of a unit
  static constexpr int kSlotBytes = kSlotSteps * kStepBytes;
  /// A unit and its slot arrive together where slots are narrow: as many as two blocks an SM have
  /// room for.
  static constexpr int kFit = (80 << 10) / (kWeightBytes + kSlotBytes);
  static constexpr int kStages = !kNarrow ? 3 : kFit < 2 ? 2 : kFit > 4 ? 4 : kFit;
  static constexpr int kWeightStages = kNarrow ? kStages : 2;
  static constexpr bool kCodesAtOnce = kNarrow && DeviceLayout<F>::kBits <= 5;
  static constexpr std::size_t kShared = kWeightStages * kWeightBytes + kStages * kSlotBytes;
  static_assert(kShared <= ((kColumns == 16 ? 99u : 163u) << 10));
};

/// Byte of 16-byte piece `piece` of X's row `column` in a step: odd rows have their halves
/// exchanged, so that a quarter of a warp, two rows of X, reads 32 different banks.
KQ_HOST_DEVICE constexpr int step_byte(int column, int piece) {
  return column * 128 + (piece ^ (column & 1) << 2) * 16;
}

/// Leaves this block's sums in device memory. True in the last of the blocks that share a result,
/// whose sums are those of all, added in the order of K.
template <class S>
KQ_DEVICE bool add_up(const Product& p, float (&sum)[S::kTileRows][S::kTiles8][4]) {
  constexpr std::size_t kSums = sizeof sum / sizeof(float);
  const int place = block().y * grid().x + block().x;
  const auto sums_of = [&](int z) {
    return p.partial +
           (static_cast<std::size_t>(place) * static_cast<std::size_t>(grid().z) +
            static_cast<std::size_t>(z)) *
               kSums * S::kThreads +
           thread();
  };
  float* const flat = &sum[0][0][0];
  float* const own = sums_of(block().z);
#pragma unroll
  for (std::size_t i = 0; i < kSums; ++i) own[i * S::kThreads] = flat[i];
  sync_block();
  auto* const before = reinterpret_cast<unsigned*>(shared_memory());
  if (thread() == 0) *before = take_ticket(p.tickets + place);
  sync_block();
  if (*before + 1 != static_cast<unsigned>(grid().z)) return false;
  if (thread() == 0) p.tickets[place] = 0;
#pragma unroll
  for (std::size_t i = 0; i < kSums; ++i) flat[i] = 0;
    // Several at once where registers are left: each takes as long as L2 does to answer.
#pragma unroll(kSums <= 32 ? 4 : 1)
  for (int z = 0; z < grid().z; ++z) {
    const float* from = sums_of(z);
#pragma unroll
    for (std::size_t i = 0; i < kSums; ++i) flat[i] += from[i * S::kThreads];
  }
  return true;
}

template <class F, int kColumns>
KQ_KERNEL_SHARING((ManyColumns<F, kColumns>::kThreads), kColumns <= 32 ? 2 : 1)
void many_columns(Product p) {
  using S = ManyColumns<F, kColumns>;
  const int first_column = block().y * kColumns;
  const int unit_begin = static_cast<int>(static_cast<long long>(p.units) * block().z / grid().z);
  const int unit_end =
      static_cast<int>(static_cast<long long>(p.units) * (block().z + 1) / grid().z);
  const int g = lane() / 4, t = lane() % 4;
  std::byte* const weights = shared_memory();
  std::byte* const slots = weights + S::kWeightStages * S::kWeightBytes;

  UnitCopies<F, S::kTileRows> copies(p, block().x * S::kTiles + warp() * S::kTileRows, unit_begin);
  // Of this warp's rows of W.
  const auto unit_at = [&](int stage) {
    return weights + stage + warp() * S::kTileRows * S::kUnit;
  };

  // Rows of X beyond the last one are not copied: what is there is a column that is not written.
  const auto x_stride = static_cast<unsigned>(p.units * kUnitCols);
  const std::uint16_t* x_piece = p.x + static_cast<std::size_t>(first_column) * x_stride +
                                 unit_begin * kUnitCols + thread() % 8 * 8;
  const int x_columns = p.columns - first_column;
  const auto copy_slot = [&](int stage) {
#pragma unroll
    for (int s = 0; s < S::kSlotSteps; ++s) {
      std::byte* to = slots + stage + s * S::kStepBytes;
      // Not unrolled where the sums leave no registers for all of these addresses.
#pragma unroll(kColumns > 64 ? 1 : kColumns)
      for (int i = 0; i < kColumns * 8 / S::kThreads; ++i) {
        const int column = i * S::kThreads / 8 + thread() / 8;
        if (column < x_columns)
          copy_async(to + step_byte(column, thread() % 8),
                     x_piece + s * kStepCols +
                         static_cast<std::size_t>(static_cast<unsigned>(column)) * x_stride);
      }
    }
    x_piece += S::kSlotSteps * kStepCols;
  };

  float sum[S::kTileRows][S::kTiles8][4] = {};
  const int units = unit_end - unit_begin, n_slots = units * S::kSlots;
#pragma unroll
  for (int stage = 0; stage < S::kWeightStages - 1; ++stage)
    if (stage < units) {
#pragma unroll
      for (int i = 0; i < S::kTileRows; ++i)
        copies.copy(i, unit_at(stage * S::kWeightBytes) + i * S::kUnit);
      copies.advance(1);
    }
  wait_for_previous_launches();
#pragma unroll
  for (int stage = 0; stage < S::kStages - 1; ++stage) {
    if (stage < n_slots) copy_slot(stage * S::kSlotBytes);
    commit_copies();
  }

  Ring<S::kWeightStages, S::kWeightBytes> unit_ring;
  Ring<S::kStages, S::kSlotBytes> slot_ring;
  for (int unit = 0; unit < units; ++unit) {
    const std::byte* at = unit_at(unit_ring.now);
    UnitReader<F> readers[S::kTileRows];
    const std::byte* x = slots;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      if (s % S::kSlotSteps == 0) {
        // All groups but the latest kStages - 2 are there: this slot, and the unit, which went with
        // it or, where a unit has several slots, with the two before. All warps have left the slot
        // and, at s = 0, the unit that are filled next.
        wait_copies<S::kStages - 2>();
        sync_block();
        const int slot = unit * S::kSlots + s / S::kSlotSteps;
        if (slot + S::kStages - 1 < n_slots) copy_slot(slot_ring.before());
        if (unit + S::kWeightStages - 1 < units) {
#pragma unroll
          for (int i = 0; i < S::kTileRows; ++i)
            if (S::kSlots == 1 || i == s)
              copies.copy(i, unit_at(unit_ring.before()) + i * S::kUnit);
        }
        commit_copies();
        x = slots + slot_ring.now;
        slot_ring.advance();
      }

#pragma unroll
      for (int i = 0; i < S::kTileRows; ++i) {
        if (s == 0) readers[i].open(at + i * S::kUnit, lane());
          // All at once where registers are left: steps share words (layout.hpp).
#pragma unroll
        for (int of = 0; of < kSteps; ++of)
          if (S::kCodesAtOnce ? s == 0 : s == of) readers[i].load(at + i * S::kUnit, lane(), of);
      }
#pragma unroll
      for (int c = 0; c < kStepChunks; ++c) {
        ChunkFragments w[S::kTileRows];
#pragma unroll
        for (int i = 0; i < S::kTileRows; ++i) w[i] = readers[i].chunk(s, c);
#pragma unroll
        for (int j = 0; j < S::kTiles8; ++j) {
          const Words4 b =
              load16(x + s % S::kSlotSteps * S::kStepBytes + step_byte(8 * j + g, 4 * c + t));
#pragma unroll
          for (int i = 0; i < S::kTileRows; ++i) {
            mma(sum[i][j], w[i].a[0], b.at[0], b.at[1]);
            mma(sum[i][j], w[i].a[1], b.at[2], b.at[3]);
          }
        }
      }
    }
    copies.advance(1);
    unit_ring.advance();
  }
  wait_copies<0>();

  if (grid().z > 1 && !add_up<S>(p, sum)) return;
  const ResultRows<S::kTileRows, kUnitRows> rows(
      p, block().x * S::kRows + warp() * S::kTileRows * kUnitRows + g);
#pragma unroll
  for (int j = 0; j < S::kTiles8; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e)
      rows.put(p, first_column + 8 * j + 2 * t + e,
               [&](int i, int h) { return sum[i][j][2 * h + e]; });
}

}  // namespace kquant::cuda
