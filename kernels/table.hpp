#pragma once
// What one instruction set offers: plain function pointers, one row a format. Ordinary code
// (lib/matmul, lib/model) sees the kernels only through this table, so that no template compiled
// with -m flags is ever instantiated outside its own translation unit.

#include <cstddef>
#include <cstdint>

#include "kernels/attention_ops.hpp"
#include "kquant/base/half.hpp"
#include "kquant/dispatch.hpp"
#include "kquant/format/info.hpp"

namespace kquant::kernels {

/// Float operations of a transformer. Rows are contiguous; n counts elements. All results are the
/// same on every ISA: sums run in 16 partial sums and one fixed tree, nothing is fused.
struct FloatOps {
  void (*rms_norm)(const float* x, const float* weight, std::size_t n, float eps,
                   float* out) noexcept;
  void (*rope_normal)(float* x, std::size_t n_heads, std::size_t head_dim, const float* cos,
                      const float* sin, std::size_t n_pairs) noexcept;
  void (*rope_neox)(float* x, std::size_t n_heads, std::size_t head_dim, const float* cos,
                    const float* sin, std::size_t n_pairs) noexcept;
  void (*softmax)(float* x, std::size_t n) noexcept;
  void (*silu_mul)(const float* gate, const float* up, std::size_t n, float* out) noexcept;
  void (*gelu_tanh_mul)(const float* gate, const float* up, std::size_t n, float* out) noexcept;
  void (*soft_cap)(float* x, std::size_t n, float cap) noexcept;
  void (*add)(const float* x, std::size_t n, float* y) noexcept;
  void (*scale)(float* x, std::size_t n, float factor) noexcept;
};

/// How the columns of X (rows of the M x K matrix) meet the weights of a format.
enum class ActivationKind : std::uint8_t { kFloat, kInt8Per256, kInt8Per32 };
inline constexpr int kActivationKinds = 3;

/// M rows of K activations as kernels read them. K is padded with zeros to `padded` columns.
/// Quantized: x = scales[group] * code, where sums helps with zero points and mins.
struct Activations {
  std::size_t rows = 0;
  std::size_t padded = 0;          ///< columns, a multiple of 256 (kFloat: not used)
  const float* x = nullptr;        ///< kFloat: row m at x + m * x_stride
  std::size_t x_stride = 0;        ///<
  std::uint8_t* codes = nullptr;   ///< padded a row
  float* scales = nullptr;         ///< padded / group a row
  float* scaled_sums = nullptr;    ///< kInt8Per32: scale * sum of codes, one a group
  std::int16_t* sums16 = nullptr;  ///< kInt8Per256: sums of 16 codes each, padded / 16 a row
};

/// Rows [first, first + count) of W against all rows of X.
struct Panel {
  const std::byte* weights = nullptr;  ///< row `first`
  std::size_t row_bytes = 0;
  std::size_t count = 0;
  std::size_t cols = 0;  ///< K
  const Activations* activations = nullptr;
  float* y = nullptr;  ///< y[m * y_stride + n], n = 0 … count - 1
  std::size_t y_stride = 0;
};

inline constexpr std::size_t kPanelRows = 16;  ///< of packed W that are interleaved
inline constexpr std::size_t kTileRows = 64;   ///< the most rows of X that meet a panel at once

/// Rows of X up to which weights that lie as in a file are multiplied as they lie.
inline constexpr std::size_t kFewRows = 8;

inline constexpr std::size_t kSumsPerSuper = 16 + 8;  ///< of codes: sums of 16, and of 32

/// M rows of K activations for packed weights: int8 and sums in tiles (packed/activations.hpp).
struct TiledActivations {
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t tile = 0;  ///< rows of X in a tile, at most kTileRows
  std::int8_t* codes = nullptr;
  float* scales = nullptr;
  std::int16_t* sums = nullptr;
};

/// `rows` rows of packed W, from a panel's first one on, against all rows of X.
struct PackedProduct {
  const std::byte* panels = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;  ///< K
  const TiledActivations* activations = nullptr;
  float* y = nullptr;  ///< y[m * y_stride + n], n = 0 … rows - 1
  std::size_t y_stride = 0;
  std::byte* scratch = nullptr;  ///< packed_scratch_bytes(cols, tile), 64-byte aligned
};

struct FormatKernels {
  TensorType type;
  ActivationKind activations;
  void (*dequantize_row)(const std::byte* row, std::size_t cols, float* out) noexcept;
  void (*multiply)(const Panel& panel) noexcept;
  /// Packed weights; null for plain formats.
  void (*pack_panel)(const std::byte* rows, std::size_t row_bytes, std::size_t count,
                     std::size_t cols, std::byte* panel) noexcept;
  std::size_t (*panel_bytes)(std::size_t cols) noexcept;
  void (*multiply_packed)(const PackedProduct& product) noexcept;
  std::size_t (*packed_scratch_bytes)(std::size_t cols, std::size_t tile) noexcept;
};

inline constexpr int kComputableTypes = 13;

struct KernelTable {
  Isa isa;
  const char* isa_name;  ///< written by the translation unit itself: proves which one ran
  FormatKernels formats[kComputableTypes];
  /// Quantizes rows [first, first + count) of x; [kFloat] is not used.
  void (*quantize[kActivationKinds])(const float* x, std::size_t x_stride, std::size_t cols,
                                     std::size_t first, std::size_t count,
                                     const Activations& out) noexcept;
  void (*tile[kActivationKinds])(const float* x, std::size_t x_stride, std::size_t first,
                                 std::size_t count, const TiledActivations& out) noexcept;
  FloatOps floats;
  AttentionOps attention;
};

/// The table of the ISA in use (lib/matmul/dispatch.cpp).
const KernelTable& table();

/// The row of a format; nullptr where there is none.
inline const FormatKernels* find(const KernelTable& table, TensorType type) {
  for (const FormatKernels& row : table.formats)
    if (row.type == type) return &row;
  return nullptr;
}

}  // namespace kquant::kernels
