#pragma once
// Y = X W^T for 1 … 16 rows of X (decoding): limited by the memory that weights are read from.
//
// A block has 32 rows of W and all of K. Its warps take units of 256 columns in turn; each keeps a
// ring of stages of its own in shared memory, filled by cp.async, so that no barrier is met before
// the end. Weights become binary16 fragments in registers and meet X in mma.m16n8k16 with W as the
// 16-row operand: eight columns cost what one does. Sums of the warps are added in a fixed order.
//
//     registers   at most 128, so that an SM has room for two blocks; accumulators 2 x 4 x kTiles8
//     shared      warps x stages x 2 units: 21 KB (Q2_K) … 70 KB (Q8_0) a stage of 8 warps
//     in flight   40 to 90 KB an SM; at 4.3 TB/s and 800 ns an SM of 132 needs 26 KB
//     arithmetic  1.6 (Q4_0) to 2.8 (Q5_K) instructions a weight in the compiled code (of them 0.5
//                 lop3 that take codes, 0.5 fma, 0.12 mma), a byte of Q2_K 5.6, of Q4_K 3.5, of
//                 Q8_0 1.7 (test/cuda/instructions.csv). An SM issues 128 a clock, in which its
//                 share of 4.3 TB/s are 16 bytes (at 1.98 GHz) to 19 (at 1.7), so it may spend 7 to
//                 8 a byte: memory is the limit, with the least room for Q2_K and Q3_K
//     X           read from L1 and L2: 32 rows of Q4_K are 4.6 KB a unit, X 0.5 KB a column

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
  static constexpr int kMostColumns = 16;
  static constexpr int kReduction = kWarps * kRows * kMostColumns * 4;
  static constexpr int kRing = kStages * kStage;
  static constexpr std::size_t kShared = kWarps * kRing;
  /// The stages beside one; as bytes of the ring.
  KQ_HOST_DEVICE static constexpr int before(int stage) {
    return stage > 0 ? stage - kStage : kRing - kStage;
  }
  KQ_HOST_DEVICE static constexpr int after(int stage) {
    return stage + kStage < kRing ? stage + kStage : 0;
  }
  /// Steps whose codes share words (layout.hpp) one after the other.
  KQ_HOST_DEVICE static constexpr int step(int k) {
    return DeviceLayout<F>::kLowBits == 4 ? k % 2 * 2 + k / 2 : k;
  }
  static_assert(kShared >= kReduction && kShared <= (163u << 10));
};

template <class F, int kTiles8>
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
  const std::uint16_t* x[kTiles8];
#pragma unroll
  for (int j = 0; j < kTiles8; ++j) {
    const int column = 8 * j + g < p.columns ? 8 * j + g : p.columns - 1;
    x[j] = p.x + static_cast<std::size_t>(column) * static_cast<std::size_t>(p.units * kUnitCols) +
           kChunk * t;
  }
  const auto load_x = [&](int j, int unit, int chunk) {
    return load16_constant(x[j] + unit * kUnitCols + chunk * 4 * kChunk);
  };

  float sum[S::kTileRows][kTiles8][4] = {};
#pragma unroll
  for (int s = 0; s < S::kStages - 1; ++s) copy_unit(warp() + s * S::kWarps, s * S::kStage);

  int stage = 0;
#pragma unroll 1
  for (int unit = warp(); unit < p.units; unit += S::kWarps) {
    wait_copies<S::kStages - 2>();
    sync_warp();  // all lanes' copies are there, and all have left the stage that is filled next
    copy_unit(unit + (S::kStages - 1) * S::kWarps, S::before(stage));

    const std::byte* at = ring + stage;
    UnitReader<F> readers[S::kTileRows];
#pragma unroll
    for (int i = 0; i < S::kTileRows; ++i) readers[i].open(at + i * S::kUnit, lane());
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const int s = S::step(k);
      Words4 x_of[kStepChunks][kTiles8];
#pragma unroll
      for (int c = 0; c < kStepChunks; ++c)
#pragma unroll
        for (int j = 0; j < kTiles8; ++j) x_of[c][j] = load_x(j, unit, s * kStepChunks + c);
#pragma unroll
      for (int i = 0; i < S::kTileRows; ++i) {
        readers[i].load(at + i * S::kUnit, lane(), s);
#pragma unroll
        for (int c = 0; c < kStepChunks; ++c) {
          const ChunkFragments w = readers[i].chunk(s, c);
#pragma unroll
          for (int j = 0; j < kTiles8; ++j) {
            mma(sum[i][j], w.a[0], x_of[c][j].at[0], x_of[c][j].at[1]);
            mma(sum[i][j], w.a[1], x_of[c][j].at[2], x_of[c][j].at[3]);
          }
        }
      }
    }
    stage = S::after(stage);
  }

  // Sums of the warps, over the rings: warp x row x column.
  wait_copies<0>();
  sync_block();
  constexpr int kColumns = 8 * kTiles8;
  auto* const sums = reinterpret_cast<float*>(shared_memory());
#pragma unroll
  for (int i = 0; i < S::kTileRows; ++i)
#pragma unroll
    for (int j = 0; j < kTiles8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = i * kUnitRows + g + 8 * (e / 2), column = 8 * j + 2 * t + e % 2;
        sums[(warp() * S::kRows + row) * kColumns + column] = sum[i][j][e];
      }
  sync_block();
  for (int i = thread(); i < S::kRows * kColumns; i += S::kThreads) {
    const int row = i % S::kRows, column = i / S::kRows;
    float total = 0;
#pragma unroll
    for (int w = 0; w < S::kWarps; ++w) total += sums[(w * S::kRows + row) * kColumns + column];
    put_result(p, first_tile * kUnitRows + row, column, total);
  }
}

}  // namespace kquant::cuda
