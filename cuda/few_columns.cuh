#pragma once
// Y = X W^T for 1 … 16 rows of X (decoding): limited by the memory that weights are read from.
//
// A block has 32 rows of W and all of K. Its warps take units of 256 columns in turn; each keeps a
// ring of stages of its own in shared memory, filled by cp.async, so that no barrier is met before
// the end. Weights become binary16 fragments in registers and meet X in mma.m16n8k16 with W as the
// 16-row operand: eight columns cost what one does. Sums of the warps are added in a fixed order.
//
//     registers   accumulators 2 x 4 x kTiles8, two fragments, scales: 80 … 180 (resources.csv)
//     shared      warps x stages x 2 units: 36 KB (Q2_K) … 70 KB (Q8_0) a stage of 8 warps / 2
//     in flight   about 100 KB an SM; at 4.3 TB/s and 800 ns an SM of 132 needs 26 KB
//     arithmetic  about 2 instructions a weight / 32 lanes (shift, lop3, sub, fma for two weights):
//                 2.9e13 lane instructions/s of 132 SMs at 1.7 GHz make 1.4e13 weights/s, which is
//                 4.7 TB/s of Q2_K, 8 TB/s of Q4_K; so memory should be the limit everywhere, with
//                 the least room for Q2_K
//     X           read from L1 and L2: 32 rows of Q4_K are 4.6 KB a unit, X 0.5 KB a column

#include "cuda/product.hpp"
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
  static constexpr int kRoom = 110 << 10;           ///< so that a Hopper SM has room for two
  static constexpr int kFit = kRoom / (kWarps * kStage);
  static constexpr int kStages = kFit < 2 ? 2 : kFit > 4 ? 4 : kFit;
  static constexpr int kMostColumns = 16;
  static constexpr int kReduction = kWarps * kRows * kMostColumns * 4;
  static constexpr std::size_t kShared = kWarps * kStages * kStage;
  static_assert(kShared >= kReduction && kShared <= (163u << 10));
};

template <class F, int kTiles8>
KQ_KERNEL(FewColumns<F>::kThreads)
void few_columns(Product p) {
  using S = FewColumns<F>;
  const int first_tile = block().x * S::kTileRows, tiles = (p.rows + kUnitRows - 1) / kUnitRows;
  const int g = lane() / 4, t = lane() % 4;
  std::byte* const ring = shared_memory() + warp() * S::kStages * S::kStage;

  // A tile beyond the last row is a copy of the last one; its results are not written.
  const auto copy_unit = [&](int unit, int stage) {
    if (unit < p.units) {
#pragma unroll
      for (int i = 0; i < S::kTileRows; ++i) {
        const int tile = first_tile + i < tiles ? first_tile + i : tiles - 1;
        const std::byte* from =
            p.weights + (static_cast<std::size_t>(tile) * static_cast<std::size_t>(p.units) +
                         static_cast<std::size_t>(unit)) *
                            S::kUnit;
        std::byte* to = ring + stage * S::kStage + i * S::kUnit;
        for (int at = lane() * 16; at < S::kUnit; at += kWarp * 16)
          copy_async<true>(to + at, from + at);
      }
    }
    commit_copies();  // an empty group where there is nothing left keeps the count
  };

  const std::uint16_t* x[kTiles8];
#pragma unroll
  for (int j = 0; j < kTiles8; ++j)
    x[j] = 8 * j + g < p.columns ? p.x +
                                       static_cast<std::size_t>(8 * j + g) *
                                           static_cast<std::size_t>(p.units * kUnitCols) +
                                       8 * t
                                 : nullptr;
  const auto load_x = [&](int j, int unit, int chunk) {
    return x[j] == nullptr ? Words4{} : load16_constant(x[j] + unit * kUnitCols + chunk * kChunk);
  };

  float sum[S::kTileRows][kTiles8][4] = {};
#pragma unroll
  for (int s = 0; s < S::kStages - 1; ++s) copy_unit(warp() + s * S::kWarps, s);

  int stage = 0;
  for (int unit = warp(); unit < p.units; unit += S::kWarps) {
    wait_copies<S::kStages - 2>();
    sync_warp();  // all lanes' copies are there, and all have left the stage that is filled next
    copy_unit(unit + (S::kStages - 1) * S::kWarps, (stage + S::kStages - 1) % S::kStages);

    const std::byte* at = ring + stage * S::kStage;
    Words4 next[kTiles8];
#pragma unroll
    for (int j = 0; j < kTiles8; ++j) next[j] = load_x(j, unit, 0);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      StepReader<F> readers[S::kTileRows];
#pragma unroll
      for (int i = 0; i < S::kTileRows; ++i) readers[i].open(at + i * S::kUnit, lane(), s);
#pragma unroll
      for (int c = 0; c < kStepChunks; ++c) {
        const int chunk = s * kStepChunks + c;
        Words4 now[kTiles8];
#pragma unroll
        for (int j = 0; j < kTiles8; ++j) {
          now[j] = next[j];
          if (chunk + 1 < kChunks) next[j] = load_x(j, unit, chunk + 1);
        }
#pragma unroll
        for (int i = 0; i < S::kTileRows; ++i) {
          const ChunkFragments w = readers[i].chunk(c);
#pragma unroll
          for (int j = 0; j < kTiles8; ++j) {
            mma(sum[i][j], w.a[0], now[j].at[0], now[j].at[1]);
            mma(sum[i][j], w.a[1], now[j].at[2], now[j].at[3]);
          }
        }
      }
    }
    stage = (stage + 1) % S::kStages;
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
