#pragma once
// Weights as numbers: whole matrices, and rows of a table by token.
//
// dequantize: a warp has a unit; a lane writes its quarters of two rows (layout.hpp), 16 (F16,
// BF16) or 32 bytes (F32) at a time, which fill sectors of 32 bytes in one or two goes.
//
//     limit       device memory: 2.3 bytes or more a weight, in which time an SM issues 15
//                 instructions; about 8 are needed where rows are aligned
//     registers   about 60        shared memory  none
//
// Both form the value as dequantize_block does, in binary32 without fused multiply-add, so that F32
// has the CPU's bits (but for rows that layout.hpp names).

#include "cuda/unpack.hpp"

namespace kquant::cuda {

struct Table {
  const std::byte* weights;
  const float* row_scale;
  int rows = 0, cols = 0, units = 0;
};

enum class Numbers { kF32, kF16, kBf16 };

template <Numbers kNumbers>
KQ_DEVICE void store_number(void* out, std::size_t at, float x) {
  if constexpr (kNumbers == Numbers::kF32)
    static_cast<float*>(out)[at] = x;
  else if constexpr (kNumbers == Numbers::kF16)
    static_cast<std::uint16_t*>(out)[at] = half_bits(x);
  else
    static_cast<std::uint16_t*>(out)[at] = to_bfloat16(x).bits;
}

/// Eight numbers side by side; `at` is a multiple of 8 from an aligned `out`.
template <Numbers kNumbers>
KQ_DEVICE void store_eight(void* out, std::size_t at, const float (&x)[8]) {
  if constexpr (kNumbers == Numbers::kF32) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Words4 words;
#pragma unroll
      for (int i = 0; i < 4; ++i) words.at[i] = __builtin_bit_cast(std::uint32_t, x[4 * half + i]);
      store16(static_cast<float*>(out) + at + static_cast<std::size_t>(4 * half), words);
    }
  } else {
    Words4 words;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kNumbers == Numbers::kF16)
        words.at[i] = to_half2(x[2 * i], x[2 * i + 1]).bits;
      else
        words.at[i] = to_bfloat2(x[2 * i], x[2 * i + 1]);
    }
    store16(static_cast<std::uint16_t*>(out) + at, words);
  }
}

/// A lane's weights of a chunk of a step, of its row g + 8h.
template <class F>
KQ_DEVICE void weights_of_chunk(const StepCodes<F>& codes, const QuarterScales<F>& scales, int step,
                                int c, int h, float (&x)[kChunk]) {
  const float d_scale = scales.d_scale(step), addend = scales.addend(step);
#pragma unroll
  for (int p = 0; p < 4; ++p) {
    const std::uint32_t q = codes.pair(step, c, h, p) >> StepCodes<F>::bit_of(step, h);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int code = static_cast<int>(q >> (16 * i) & 0xffffu) - DeviceLayout<F>::kZero;
      const float value = d_scale * static_cast<float>(code);
      x[2 * p + i] = F::kHasMin ? value + addend : value;
    }
  }
}

inline constexpr int kDequantizeWarps = 8;

template <class F, Numbers kNumbers>
KQ_KERNEL(kDequantizeWarps* kWarp)
void dequantize(Table table, void* out) {
  wait_for_previous_launches();
  const int unit = block().x * kDequantizeWarps + warp(), tile = block().y;
  if (unit >= table.units) return;
  const std::byte* at =
      table.weights + (static_cast<std::size_t>(tile) * static_cast<std::size_t>(table.units) +
                       static_cast<std::size_t>(unit)) *
                          DeviceLayout<F>::kUnitBytes;
  const int g = lane() / 4, t = lane() % 4;
  const bool aligned = table.cols % 8 == 0;

  const auto put = [&](int c, int h, float(&x)[kChunk]) {
    const int row = tile * kUnitRows + g + 8 * h;
    const int col = unit * kUnitCols + t * kQuarter + c * kChunk;
    if (row >= table.rows || col >= table.cols) return;
    const float scale = table.row_scale[row];
#pragma unroll
    for (int i = 0; i < kChunk; ++i) x[i] *= scale;
    const std::size_t first = static_cast<std::size_t>(row) * static_cast<std::size_t>(table.cols) +
                              static_cast<std::size_t>(col);
    if (aligned) {
      store_eight<kNumbers>(out, first, x);
    } else {
      for (int i = 0; i < kChunk && col + i < table.cols; ++i)
        store_number<kNumbers>(out, first + static_cast<std::size_t>(i), x[i]);
    }
  };
  UnitReader<F> reader;
  reader.open(at, lane());
  float x[kChunk];
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    reader.load(at, lane(), s);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if constexpr (DeviceLayout<F>::kPlain) {
#pragma unroll
        for (int c = 0; c < kStepChunks; ++c) {
#pragma unroll
          for (int p = 0; p < 4; ++p) {
            const std::uint32_t pair = reader.chunk(s, c).a[p / 2][p % 2 * 2 + h];
            x[2 * p] = half_value(static_cast<std::uint16_t>(pair & 0xffffu));
            x[2 * p + 1] = half_value(static_cast<std::uint16_t>(pair >> 16));
          }
          put(s * kStepChunks + c, h, x);
        }
      } else {
#pragma unroll
        for (int c = 0; c < kStepChunks; ++c) {
          weights_of_chunk<F>(reader.steps[s], reader.rows[h], s, c, h, x);
          put(s * kStepChunks + c, h, x);
        }
      }
    }
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
