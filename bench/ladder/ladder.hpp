#pragma once
// From a naive product with Q4_K weights to the idea of the library's kernel, in steps that each
// add one thing. scalar_steps.cpp and vector_steps.cpp have the steps, in reading order; main.cpp
// checks each against double precision, times it and prints what it bought.
//
// All on one thread:   Y (M x N) = X (M x K) W^T,   N and K multiples of 32 and 256.

#include <cstddef>
#include <cstdint>

namespace kquant::ladder {

inline constexpr std::size_t kBlock = 256;    ///< weights in a block of Q4_K
inline constexpr std::size_t kRun = 32;       ///< of them share a scale and a min
inline constexpr std::size_t kPanel = 16;     ///< rows that are interleaved from step 4 on
inline constexpr std::size_t kMostRows = 64;  ///< of X

/// X, and X rounded to int8: x = scale * code, with one scale for 256 columns, and sums of 32
/// codes.
struct Columns {
  std::size_t m = 0, k = 0;
  const float* x = nullptr;            ///< m x k
  const std::int8_t* codes = nullptr;  ///< m x k
  const float* scales = nullptr;       ///< m x k / 256
  const std::int16_t* sums = nullptr;  ///< m x k / 32
  // From step 4 on:
  const std::int16_t* pairs = nullptr;  ///< the 8 sums of a block in the order 0 2 1 3 4 6 5 7
  const std::int8_t* tiled = nullptr;   ///< codes as [k / 32][m][32]: what step 5 reads in one go
};

struct Product {
  const std::byte* w = nullptr;  ///< rows as in a file, or packed
  std::size_t n = 0;
  const Columns* columns = nullptr;
  float* y = nullptr;  ///< y[m * n + row]
};

struct Step {
  const char* name;
  void (*run)(const Product& product);
  bool packed;      ///< reads panels (pack_panels)
  bool huge_pages;  ///< in memory of 2 MiB pages
};

// scalar_steps.cpp
void naive(const Product& p);
void int8_dot(const Product& p);

// vector_steps.cpp, compiled for AVX-512 VNNI
void row_by_row(const Product& p);
void lanes_are_rows(const Product& p);
void tile(const Product& p);
void tile_prefetched(const Product& p);
void two_panels(const Product& p);

/// Rows as in a file -> panels of 16 rows, of the same size. A block of a panel:
///
///     d[16] dmin[16]   binary16                            64 bytes
///     sc[3][16]        the 12 bytes of scales, as words   192 bytes
///     codes[8][4]      of run g, vector v: 64 bytes, lane r of row r. Low nibbles are columns
///                      4v … 4v + 3 of the run, high nibbles 16 more: 4 (v + 4) …
void pack_panels(const std::byte* rows, std::size_t n, std::size_t k, std::byte* panels);

}  // namespace kquant::ladder
