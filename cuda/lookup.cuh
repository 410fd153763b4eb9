#pragma once
// Weights as numbers: whole matrices, and rows of a table by token.
//
// dequantize: a warp has a unit. Lanes have quarters of rows (layout.hpp), of which a step is 16
// weights: were each to write its own, every access would touch 32 sectors of memory, half or a
// quarter of each. So the numbers of a step go through shared memory, and lanes that write side by
// side fill 32 (F16, BF16) or 64 bytes (F32).
//
//     limit       device memory: 2.3 bytes or more a weight, in which time an SM issues 15
//                 instructions; 8 (Q4_0) to 12 (Q5_K) are needed (test/cuda/instructions.csv)
//     registers   at most 80, three blocks an SM        shared memory  2 or 4 KB a warp
//
// Both form the value as dequantize_block does, in binary32 without fused multiply-add, so that F32
// has the CPU's bits (but for rows that layout.hpp names).

#include <type_traits>

#include "cuda/unpack.hpp"

namespace kquant::cuda {

struct Table {
  const std::byte* weights;
  const float* row_scale;
  int rows = 0, cols = 0, units = 0;
};

enum class Numbers { kF32, kF16, kBf16 };

/// A step of a unit, 16 rows x 4 quarters x 16 numbers, in shared memory.
template <Numbers kNumbers>
struct StepNumbers {
  static constexpr int kBytes = kNumbers == Numbers::kF32 ? 4 : 2;
  static constexpr int kNumbersOfPiece = 16 / kBytes;
  static constexpr int kPieces = kStepChunks * kChunk / kNumbersOfPiece;  ///< of a quarter
  static constexpr int kRowPieces = 4 * kPieces;
  static constexpr int kSize = kUnitRows * kRowPieces * 16;

  /// Byte of a piece of a row: eight lanes that write a piece of each quarter of two rows, or read
  /// eight pieces of one row, meet all banks.
  KQ_HOST_DEVICE static constexpr int at(int row, int piece) {
    return (row * kRowPieces + (piece ^ (row & 1) ^ piece / 8 * 2)) * 16;
  }
  /// Eight numbers of chunk c of a quarter.
  KQ_DEVICE static void put(std::byte* step, int row, int quarter, int c,
                            const float (&x)[kChunk]) {
    constexpr int kOfChunk = kPieces / kStepChunks;
#pragma unroll
    for (int i = 0; i < kOfChunk; ++i) {
      Words4 words;
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        if constexpr (kNumbers == Numbers::kF32)
          words.at[w] = __builtin_bit_cast(std::uint32_t, x[4 * i + w]);
        else if constexpr (kNumbers == Numbers::kF16)
          words.at[w] = to_half2(x[2 * w], x[2 * w + 1]).bits;
        else
          words.at[w] = to_bfloat2(x[2 * w], x[2 * w + 1]);
      }
      store16(step + at(row, quarter * kPieces + c * kOfChunk + i), words);
    }
  }
};

/// A lane's weights of a chunk of a step, of its row g + 8h, times the row's power of two. Codes
/// stay where they lie, b bits up in a half, and become the mantissa of 2^23 + code x 2^b: one
/// instruction instead of a mask and a conversion. Powers of two are exact.
template <class F>
KQ_DEVICE void weights_of_chunk(const StepCodes<F>& codes, const QuarterScales<F>& scales, int step,
                                int c, int h, float row_scale, float (&x)[kChunk]) {
  constexpr std::uint32_t kExponent = 0x4b00;  // of 2^23
  const int bit = StepCodes<F>::bit_of(step, h);
  const float d_scale = scales.d_scale(step) * row_scale * (1.0f / static_cast<float>(1 << bit)),
              addend = scales.addend(step) * row_scale,
              zero = 0x1p23f + static_cast<float>(DeviceLayout<F>::kZero << bit);
#pragma unroll
  for (int p = 0; p < 4; ++p) {
    const std::uint32_t q = codes.pair(step, c, h, p);
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
      const std::uint32_t raised = permute_bytes(q, kExponent, 0x5400 | (2 * i + 1) << 4 | 2 * i);
      const float value = d_scale * (__builtin_bit_cast(float, raised) - zero);
      x[2 * p + static_cast<int>(i)] = F::kHasMin ? value + addend : value;
    }
  }
}

inline constexpr int kDequantizeWarps = 8;
constexpr Launch dequantize_launch(const Table& table, Numbers numbers) {
  const auto units = static_cast<std::size_t>((table.rows + kUnitRows - 1) / kUnitRows) *
                     static_cast<std::size_t>(table.units);
  return {.x = static_cast<int>((units + kDequantizeWarps - 1) / kDequantizeWarps),
          .threads = kDequantizeWarps * kWarp,
          .shared = std::size_t{kDequantizeWarps} * (numbers == Numbers::kF32
                                                         ? StepNumbers<Numbers::kF32>::kSize
                                                         : StepNumbers<Numbers::kF16>::kSize)};
}

/// `out`: table.rows x table.cols numbers.
template <class F, Numbers kNumbers>
KQ_KERNEL_SHARING(kDequantizeWarps* kWarp, 3)
void dequantize(Table table, std::byte* out) {
  using Step = StepNumbers<kNumbers>;
  wait_for_previous_launches();
  const auto place =
      static_cast<std::size_t>(block().x) * kDequantizeWarps + static_cast<std::size_t>(warp());
  const int tile = static_cast<int>(place / static_cast<std::size_t>(table.units)),
            unit = static_cast<int>(place % static_cast<std::size_t>(table.units));
  const int first_row = tile * kUnitRows, first_col = unit * kUnitCols;
  if (first_row >= table.rows) return;
  const std::byte* at = table.weights + place * DeviceLayout<F>::kUnitBytes;
  std::byte* const step = shared_memory() + warp() * Step::kSize;
  const int g = lane() / 4, t = lane() % 4;
  // Scales are there for all rows of a unit.
  const float row_scale[2] = {table.row_scale[first_row + g], table.row_scale[first_row + g + 8]};
  const bool aligned = table.cols % kChunk == 0;

  // What this lane writes of each step: a piece of every kApart-th row.
  constexpr int kApart = kWarp / Step::kRowPieces;
  static_assert(kApart % 2 == 0);  // so that Step::at is as far apart
  const int row = lane() / Step::kRowPieces, piece = lane() % Step::kRowPieces;
  const int col =
      first_col + piece / Step::kPieces * kQuarter + piece % Step::kPieces * Step::kNumbersOfPiece;
  const int rows_left = table.rows - first_row - row, cols_left = table.cols - col;
  const auto row_bytes = static_cast<std::size_t>(table.cols) * Step::kBytes;
  const std::byte* const from = step + Step::at(row, piece);
  std::byte* const to = out + static_cast<std::size_t>(first_row + row) * row_bytes +
                        static_cast<std::size_t>(col) * Step::kBytes;
  const auto write = [&](int s) {
    const int before = s * kStepChunks * kChunk, left = cols_left - before;
    if (left <= 0) return;
    std::byte* to_row = to + before * Step::kBytes;
    if (aligned) {
#pragma unroll
      for (int r = 0; r < kUnitRows; r += kApart, to_row += kApart * row_bytes)
        if (r < rows_left) store16(to_row, load16(from + r * (Step::kRowPieces * 16)));
      return;
    }
    using Bits = std::conditional_t<Step::kBytes == 4, std::uint32_t, std::uint16_t>;
#pragma unroll 1
    for (int r = 0; r < kUnitRows && r < rows_left; r += kApart, to_row += kApart * row_bytes)
#pragma unroll 1
      for (int n = 0; n < Step::kNumbersOfPiece && n < left; ++n)
        reinterpret_cast<Bits*>(to_row)[n] =
            reinterpret_cast<const Bits*>(from + r * (Step::kRowPieces * 16))[n];
  };

  UnitReader<F> reader;
  reader.open(at, lane());
#pragma unroll
  for (int s = 0; s < kSteps; ++s) reader.load(at, lane(), s);
  float x[kChunk];
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
#pragma unroll
    for (int c = 0; c < kStepChunks; ++c) {
      [[maybe_unused]] ChunkFragments plain;
      if constexpr (DeviceLayout<F>::kPlain) plain = reader.chunk(s, c);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if constexpr (DeviceLayout<F>::kPlain) {
#pragma unroll
          for (int p = 0; p < 4; ++p) {
            const std::uint32_t pair = plain.a[p / 2][p % 2 * 2 + h];
            x[2 * p] = half_value(static_cast<std::uint16_t>(pair & 0xffffu)) * row_scale[h];
            x[2 * p + 1] = half_value(static_cast<std::uint16_t>(pair >> 16)) * row_scale[h];
          }
        } else {
          weights_of_chunk<F>(reader.steps[s], reader.rows[h], s, c, h, row_scale[h], x);
        }
        Step::put(step, g + 8 * h, t, c, x);
      }
    }
    sync_warp();
    write(s);
    sync_warp();  // it has been read
  }
}

/// Row i of `out` (table.cols floats) = row row_of[i * row_stride] of the table, times `factor`;
/// zeros where that is negative: another device has the row. One block a row; a few rows a step, so
/// that each weight is decoded by itself.
inline constexpr int kLookupThreads = 256;
struct Lookup {
  Table table;
  const int* row_of;
  int row_stride = 1;
  float factor = 1;
  float* out;
};
template <class F>
KQ_KERNEL(kLookupThreads)
void look_up(Lookup a) {
  wait_for_previous_launches();
  const int row = a.row_of[block().x * a.row_stride];
  float* out = a.out + static_cast<std::size_t>(block().x) * static_cast<std::size_t>(a.table.cols);
  if (row < 0) {
    for (int col = thread(); col < a.table.cols; col += kLookupThreads) out[col] = 0;
    return;
  }
  const std::byte* units = a.table.weights + static_cast<std::size_t>(row / kUnitRows) *
                                                 static_cast<std::size_t>(a.table.units) *
                                                 DeviceLayout<F>::kUnitBytes;
  const float scale = a.table.row_scale[row];
  for (int col = thread(); col < a.table.cols; col += kLookupThreads) {
    const std::byte* unit =
        units + static_cast<std::size_t>(col / kUnitCols) * DeviceLayout<F>::kUnitBytes;
    out[col] = weight_in_unit<F>(unit, row % kUnitRows, col % kUnitCols) * scale * a.factor;
  }
}

}  // namespace kquant::cuda
