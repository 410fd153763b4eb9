#pragma once
// Y = X W^T for 1 … 8 rows of X (decoding): limited by the memory that weights are read from.
//
// A block has 32 rows of W and all of K. Its warps take units of 256 columns in turn; each keeps a
// ring of stages of its own in shared memory, filled by cp.async, so that no barrier is met before
// the end. Weights become binary16 fragments in registers and meet X in mma.m16n8k16 with W as the
// 16-row operand: eight columns cost what one does. Sums of the warps are added in a fixed order.
//
//     registers   at most 128, so that an SM has room for two blocks; accumulators 2 x 4
//     shared      warps x stages x 2 units: 21 KB (Q2_K) … 70 KB (Q8_0) a stage of 8 warps
//     in flight   40 to 90 KB an SM; at 4.3 TB/s and 800 ns an SM of 132 needs 26 KB
//     arithmetic  1.6 (Q4_0) to 2.8 (Q5_K) instructions a weight in the compiled code (of them 0.5
//                 lop3 that take codes, 0.5 fma, 0.12 mma), a byte of Q2_K 5.6, of Q4_K 3.5, of
//                 Q8_0 1.7 (test/cuda/instructions.csv). An SM issues 128 a clock, in which its
//                 share of 4.3 TB/s are 16 bytes (at 1.98 GHz) to 19 (at 1.7), so it may spend 7 to
//                 8 a byte: memory is the limit, with the least room for Q2_K and Q3_K
//     X           each warp reads it from L2, or from L1 where the other block of the SM has just
//                 done so: 0.5 KB a column and unit, beside two units of weights (4.6 KB of Q4_K).
//                 Where L2 would be the limit many_columns.cuh is better: blocks_for(), matrix.cu

#include "cuda/product.hpp"
#include "cuda/unit_copies.hpp"
#include "cuda/unpack.hpp"

namespace kquant::cuda {

template <class F>
struct FewColumns {
  static constexpr int kTileRows = 2;  ///< units of 16 rows
  static constexpr int kRows = kTileRows * kUnitRows;
  static constexpr int kUnit = DeviceLayout<F>::kUnitBytes;
  static constexpr int kWarps = DeviceLayout<F>::kPlain ? 4 : 8;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kStage = kTileRows * kUnit;  ///< bytes, of a warp
  static constexpr int kRoom = 80 << 10;            ///< two blocks an SM where two stages fit
  static constexpr int kFit = kRoom / (kWarps * kStage);
  static constexpr int kStages = kFit < 2 ? 2 : kFit > 4 ? 4 : kFit;
  static constexpr int kColumns = kMostFewColumns;
  /// Sums of a column of a warp: what lanes write together, and read, meets all banks.
  static constexpr int kSumRows = kRows + 4;
  static constexpr int kReduction = kWarps * kColumns * kSumRows * 4;
  static constexpr int kRing = kStages * kStage;
  static constexpr std::size_t kShared = kWarps * kRing;
  /// Steps whose codes share words (layout.hpp) one after the other.
  KQ_HOST_DEVICE static constexpr int step(int k) {
    return DeviceLayout<F>::kLowBits == 4 ? k % 2 * 2 + k / 2 : k;
  }
  static_assert(kShared >= kReduction && kShared <= (163u << 10));
};

template <class F>
KQ_KERNEL_SHARING(FewColumns<F>::kThreads, 2)
void few_columns(Product p) {
  using S = FewColumns<F>;
  const int first_tile = block().x * S::kTileRows;
  const int g = lane() / 4, t = lane() % 4;
  std::byte* const ring = shared_memory() + warp() * S::kRing;

  UnitCopies<F, S::kTileRows> copies(p, first_tile, warp());
  const auto copy_unit = [&](int unit, int stage) {
    if (unit < p.units) {
#pragma unroll
      for (int i = 0; i < S::kTileRows; ++i) copies.copy(i, ring + stage + i * S::kUnit);
      copies.advance(S::kWarps);
    }
    commit_copies();  // an empty group where there is nothing left keeps the count
  };

  // A column beyond the last one is the last one; its results are not written.
  const int column_of_x = g < p.columns ? g : p.columns - 1;
  const std::uint16_t* const x =
      p.x + static_cast<std::size_t>(column_of_x) * static_cast<std::size_t>(p.units * kUnitCols) +
      kChunk * t;

  float sum[S::kTileRows][4] = {};
#pragma unroll
  for (int s = 0; s < S::kStages - 1; ++s) copy_unit(warp() + s * S::kWarps, s * S::kStage);
  wait_for_previous_launches();

  Ring<S::kStages, S::kStage> stages;
#pragma unroll 1
  for (int unit = warp(); unit < p.units; unit += S::kWarps) {
    wait_copies<S::kStages - 2>();
    sync_warp();  // all lanes' copies are there, and all have left the stage that is filled next
    copy_unit(unit + (S::kStages - 1) * S::kWarps, stages.before());

    const std::byte* at = ring + stages.now;
    UnitReader<F> readers[S::kTileRows];
#pragma unroll
    for (int i = 0; i < S::kTileRows; ++i) readers[i].open(at + i * S::kUnit, lane());
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const int s = S::step(k);
      Words4 x_of[kStepChunks];
#pragma unroll
      for (int c = 0; c < kStepChunks; ++c)
        x_of[c] = load16(x + unit * kUnitCols + (s * kStepChunks + c) * 4 * kChunk);
#pragma unroll
      for (int i = 0; i < S::kTileRows; ++i) {
        readers[i].load(at + i * S::kUnit, lane(), s);
#pragma unroll
        for (int c = 0; c < kStepChunks; ++c) {
          const ChunkFragments w = readers[i].chunk(s, c);
          mma(sum[i], w.a[0], x_of[c].at[0], x_of[c].at[1]);
          mma(sum[i], w.a[1], x_of[c].at[2], x_of[c].at[3]);
        }
      }
    }
    stages.advance();
  }

  // Sums of the warps, over the rings: warp x column x row.
  wait_copies<0>();
  sync_block();
  auto* const sums = reinterpret_cast<float*>(shared_memory());
#pragma unroll
  for (int i = 0; i < S::kTileRows; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = i * kUnitRows + g + 8 * (e / 2), column = 2 * t + e % 2;
      sums[(warp() * S::kColumns + column) * S::kSumRows + row] = sum[i][e];
    }
  sync_block();
  for (int i = thread(); i < S::kRows * p.columns; i += S::kThreads) {
    const int row = i % S::kRows, column = i / S::kRows;
    float total = 0;
#pragma unroll
    for (int w = 0; w < S::kWarps; ++w)
      total += sums[(w * S::kColumns + column) * S::kSumRows + row];
    put_result(p, first_tile * kUnitRows + row, column, total);
  }
}

}  // namespace kquant::cuda
