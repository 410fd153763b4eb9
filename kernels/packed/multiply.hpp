#pragma once
// Packed weights times activations: panels of 16 rows of W meet tiles of up to kTileRows rows of X.
//
// Register plan (AVX-512), for each run of 32 columns of W:
//
//     8 zmm   codes of 16 rows, unpacked once and used for every row of X in the tile
//     1-2     integer scales of the run (k-quants), or d
//     2       sums, two chains; other rows of X fill the processor's window
//
//     for each row of X:   8 x vpdpbusd sum, codes, [activations]{1to16}    no shuffle, no
//                          what scales cost                                  horizontal sum
//
// With many rows of X two panels at a time: twice these registers, and one for the four activations
// that both multiply.
//
// Totals live in L1 (64 bytes a row of X and panel), so the number of rows of X is a loop and not a
// template parameter: any number from 1 to kTileRows costs what it should, with no cliff.
//
// Limits. Zen 4 and 5 multiply in two of their four vector pipes, one and two zmm a cycle, whatever
// the kind: vpdpbusd, vpmulld, vpdpwssd and vmulps share them; additions and conversions go
// elsewhere, if not always. Multiplications of 256 columns x 16 rows x 1 row of X:
//
//                      products  scales  mins  floats  in all    vpdpbusd's share
//     Q2_K                   64       -     8       3      75    85 %   (8 scales with few rows)
//     Q3_K                   64       -     -       2      66    97 %   (less what scaling costs)
//     Q4_K Q5_K              64       8     4       3      79    81 %
//     Q6_K                   64      16     -       2      82    78 %
//     Q4_0 Q5_0 Q8_0         64       -     -      16      80    80 %
//     Q4_1 Q5_1              64       -     8      16      88    73 %
//
// Zen 5 loads two operands a cycle, too, so that each of them counts as much as a multiplication.
// With one panel those are 64 of activations, and 10 to 25 of totals, starts, sums for mins, scales
// and results, as many as multiplications or more. Two panels share all that belong to X:
//
//                      one panel   two, each
//     Q2_K                    81          46
//     Q3_K                    74          41
//     Q4_K Q5_K               77          44
//     Q6_K                    89          49
//     Q4_0 Q5_0 Q8_0          80          44

#include "kernels/packed/block32.hpp"
#include "kernels/packed/super_block.hpp"

namespace kquant::kernels {

template <class F, class Isa>
struct PackedKernel {
  using Kernel =
      std::conditional_t<F::kBlock == 32, Block32Kernel<F, Isa>, SuperBlockKernel<F, Isa>>;

  static void multiply(const PackedProduct& p) noexcept {
    const std::size_t n_blocks = p.cols / F::kBlock;
    const std::size_t panel_bytes = PackedLayout<F>::panel_bytes(p.cols);
    for (std::size_t first = 0; first < p.activations->rows;) {
      const Tile tile = Tile::of<F::kBlock>(*p.activations, first);
      Kernel::prepare(tile, n_blocks, p.scratch);
      for (std::size_t row = 0; row < p.rows;) {
        const std::size_t left = p.rows - row;
        const std::size_t n_panels =
            Kernel::panels_at_once(tile.width, (left + kPanelRows - 1) / kPanelRows);
        const auto* panels =
            reinterpret_cast<const std::uint8_t*>(p.panels) + row / kPanelRows * panel_bytes;
        const std::size_t width = n_panels * kPanelRows;
        alignas(64) float acc[Kernel::kMostPanels * kTileRows * kPanelRows];
        for (std::size_t i = 0; i < tile.width * width; ++i) acc[i] = 0.0f;
        // Rows of Y lie far apart: the lines that acc goes to in the end are asked for now.
        for (std::size_t m = 0; m < tile.width; ++m)
          for (std::size_t at = 0; at < width; at += kPanelRows)
            __builtin_prefetch(p.y + (tile.first + m) * p.y_stride + row + at, 1, 3);
        Kernel::multiply(panels, panel_bytes, n_panels, n_blocks, tile, p.scratch, acc);
        const std::size_t n = left < width ? left : width;
        for (std::size_t m = 0; m < tile.width; ++m)
          __builtin_memcpy(p.y + (tile.first + m) * p.y_stride + row, acc + m * width,
                           n * sizeof(float));
        row += n;
      }
      first += tile.width;
    }
  }

  /// Of one thread.
  static std::size_t scratch_bytes(std::size_t cols, std::size_t tile) noexcept {
    return Kernel::scratch_bytes(cols, tile);
  }
};

}  // namespace kquant::kernels
