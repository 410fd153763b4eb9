#pragma once
// Y = X W^T for more than 16 rows of X (prefill, large batches): limited by the tensor cores.
//
// A block of 4 warps has 128 rows of W (64 of plain weights) and kColumns rows of X. W and X pass
// through shared memory by cp.async: W two units ahead, X kStages slots of 64 columns of K. Each
// warp turns its own rows into binary16 fragments, once, and multiplies them with all of X's slot;
// no weight is ever written in a larger form.
//
//     registers   accumulators kTileRows x kColumns / 8 x 4 = 128 at 128 columns; 16 of fragments
//     shared      2 x 8 units + 3 x 16 KB: 70 KB (Q2_K), 85 (Q4_K), 118 (Q8_0)
//     a slot      of 64 x 32 rows a warp: 128 mma at 128 columns, and in the compiled code 170 to
//                 300 other instructions, so one or two beside each mma; and 32 reads of 512 bytes,
//                 16 KB: half of what shared memory gives in that time on sm_80
//     32 columns  are limited by memory again: 2.9 (Q2_K) to 4.3 (Q6_K) instructions a weight
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
  static constexpr int kSlot = kStepCols;           ///< columns of K
  static constexpr int kSlots = kUnitCols / kSlot;  ///< of a unit
  static constexpr int kSlotBytes = kColumns * kSlot * 2;
  static constexpr int kStages = 3;
  static constexpr int kTiles8 = kColumns / 8;
  static constexpr bool kCodesAtOnce = kColumns <= 64 && DeviceLayout<F>::kBits <= 5;
  static constexpr int kWeightBytes = kTiles * kUnit;  ///< of a unit of the block
  static constexpr std::size_t kShared = 2 * kWeightBytes + kStages * kSlotBytes;
  static_assert(kShared <= ((kColumns == 32 ? 99u : 163u) << 10));
};

/// Byte of 16-byte piece `piece` of X's row `column` in a slot: odd rows have their halves
/// exchanged, so that a quarter of a warp, two rows of X, reads 32 different banks.
KQ_HOST_DEVICE constexpr int slot_byte(int column, int piece) {
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
  for (int z = 0; z < grid().z; ++z) {
    const float* from = sums_of(z);
#pragma unroll
    for (std::size_t i = 0; i < kSums; ++i) flat[i] += from[i * S::kThreads];
  }
  return true;
}

template <class F, int kColumns>
KQ_KERNEL_SHARING((ManyColumns<F, kColumns>::kThreads), kColumns <= 64 ? 3 : 1)
void many_columns(Product p) {
  using S = ManyColumns<F, kColumns>;
  const int first_column = block().y * kColumns;
  const int unit_begin = static_cast<int>(static_cast<long long>(p.units) * block().z / grid().z);
  const int unit_end =
      static_cast<int>(static_cast<long long>(p.units) * (block().z + 1) / grid().z);
  const int g = lane() / 4, t = lane() % 4;
  std::byte* const weights = shared_memory();
  std::byte* const slots = weights + 2 * S::kWeightBytes;

  const auto unit_at = [&](int unit) {
    return weights + unit % 2 * S::kWeightBytes + warp() * S::kTileRows * S::kUnit;
  };
  UnitCopies<F, S::kTileRows> copies(p, block().x * S::kTiles + warp() * S::kTileRows, unit_begin);

  // A column beyond the last one is the last one; its results are not written.
  const auto x_stride = static_cast<unsigned>(p.units * kUnitCols);
  const std::uint16_t* const x_piece =
      p.x + static_cast<std::size_t>(first_column) * x_stride + thread() % 8 * 8;
  const int last_column = p.columns - 1 - first_column;
  const auto copy_x = [&](int step) {
    std::byte* to = slots + step % S::kStages * S::kSlotBytes;
    // Not unrolled where the sums leave no registers for all of these addresses.
#pragma unroll(kColumns > 64 ? 1 : kColumns)
    for (int i = 0; i < kColumns * 8 / S::kThreads; ++i) {
      const int at = i * S::kThreads / 8 + thread() / 8,
                column = at < last_column ? at : last_column;
      copy_async(to + slot_byte(at, thread() % 8),
                 x_piece + step * S::kSlot +
                     static_cast<std::size_t>(static_cast<unsigned>(column)) * x_stride);
    }
  };

  float sum[S::kTileRows][S::kTiles8][4] = {};
  const int step_begin = unit_begin * S::kSlots, step_end = unit_end * S::kSlots;
  if (unit_begin < unit_end)
#pragma unroll
    for (int i = 0; i < S::kTileRows; ++i) copies.copy(i, unit_at(unit_begin) + i * S::kUnit);
#pragma unroll
  for (int s = 0; s < S::kStages - 1; ++s) {
    if (step_begin + s < step_end) copy_x(step_begin + s);
    commit_copies();
  }

  for (int unit = unit_begin; unit < unit_end; ++unit) {
    const std::byte* at = unit_at(unit);
    copies.advance(1);
    UnitReader<F> readers[S::kTileRows];
#pragma unroll
    for (int s = 0; s < S::kSlots; ++s) {
      const int step = unit * S::kSlots + s;
      // All groups but the latest are there: X of this step, and of this unit's weights, the second
      // half of which went with the group of the step before the last one. All warps have left the
      // slot and, at s = 0, the unit that are filled next.
      wait_copies<S::kStages - 2>();
      sync_block();
      if (step + S::kStages - 1 < step_end) copy_x(step + S::kStages - 1);
      if (s < S::kTileRows && unit + 1 < unit_end) copies.copy(s, unit_at(unit + 1) + s * S::kUnit);
      commit_copies();

#pragma unroll
      for (int i = 0; i < S::kTileRows; ++i) {
        if (s == 0) readers[i].open(at + i * S::kUnit, lane());
          // All at once where registers are left: steps share words (layout.hpp).
#pragma unroll
        for (int of = 0; of < S::kSlots; ++of)
          if (S::kCodesAtOnce ? s == 0 : s == of) readers[i].load(at + i * S::kUnit, lane(), of);
      }
      const std::byte* x = slots + step % S::kStages * S::kSlotBytes;
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        ChunkFragments w[S::kTileRows];
#pragma unroll
        for (int i = 0; i < S::kTileRows; ++i) w[i] = readers[i].chunk(s, c);
#pragma unroll
        for (int j = 0; j < S::kTiles8; ++j) {
          const Words4 b = load16(x + slot_byte(8 * j + g, 4 * c + t));
#pragma unroll
          for (int i = 0; i < S::kTileRows; ++i) {
            mma(sum[i][j], w[i].a[0], b.at[0], b.at[1]);
            mma(sum[i][j], w[i].a[1], b.at[2], b.at[3]);
          }
        }
      }
    }
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
