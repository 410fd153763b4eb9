// Steps 1 and 2: plain C++, and the packing for the later ones.

#include <cstring>

#include "kquant/format/q4_k.hpp"
#include "ladder.hpp"

namespace kquant::ladder {
namespace {

const Q4_K::Block* blocks_of(const Product& p, std::size_t row) {
  return reinterpret_cast<const Q4_K::Block*>(p.w) + row * (p.columns->k / kBlock);
}

}  // namespace

// Step 1. Weights become floats, floats are multiplied. For every weight some shifts, a conversion
// and two multiplications, and then a sum in which each addition waits for the one before (4
// cycles: the compiler may not reorder floats).
void naive(const Product& p) {
  const Columns& c = *p.columns;
  for (std::size_t row = 0; row < p.n; ++row)
    for (std::size_t m = 0; m < c.m; ++m) {
      float sum = 0;
      for (std::size_t b = 0; b < c.k / kBlock; ++b) {
        float values[kBlock];
        dequantize_block<Q4_K>(blocks_of(p, row)[b], values);
        for (std::size_t i = 0; i < kBlock; ++i) sum += values[i] * c.x[m * c.k + b * kBlock + i];
      }
      p.y[m * p.n + row] = sum;
    }
}

// Step 2. X is rounded to int8 once, and products of codes are summed as integers, exactly. Scales
// come in once for 32 weights, and mins as min * (sum of 32 codes of X), which needs no weight at
// all. Integers may be summed in any order, so the compiler uses the vectors of the baseline
// (SSE2).
void int8_dot(const Product& p) {
  const Columns& c = *p.columns;
  for (std::size_t row = 0; row < p.n; ++row)
    for (std::size_t m = 0; m < c.m; ++m) {
      float sum = 0;
      for (std::size_t b = 0; b < c.k / kBlock; ++b) {
        const Q4_K::Block& block = blocks_of(p, row)[b];
        const auto scales = Q4_K::unpack_scales(block);
        int total = 0, mins = 0;
        for (int pair = 0; pair < 4; ++pair) {  // two runs in the nibbles of 32 bytes
          const std::uint8_t* const lo = block.lo + 32 * pair;
          const std::int8_t* const a = c.codes + m * c.k + b * kBlock + 64 * pair;
          int low = 0, high = 0;
          for (int i = 0; i < 32; ++i) {
            low += (lo[i] & 15) * a[i];
            high += (lo[i] >> 4) * a[i + 32];
          }
          const std::int16_t* const sums = c.sums + m * c.k / kRun + b * 8 + 2 * pair;
          total += scales.scale_at(2 * pair) * low + scales.scale_at(2 * pair + 1) * high;
          mins += scales.min_at(2 * pair) * sums[0] + scales.min_at(2 * pair + 1) * sums[1];
        }
        sum += (Q4_K::d(block) * static_cast<float>(total) -
                Q4_K::dmin(block) * static_cast<float>(mins)) *
               c.scales[m * c.k / kBlock + b];
      }
      p.y[m * p.n + row] = sum;
    }
}

void pack_panels(const std::byte* rows, std::size_t n, std::size_t k, std::byte* panels) {
  const auto* blocks = reinterpret_cast<const Q4_K::Block*>(rows);
  const std::size_t n_blocks = k / kBlock;
  for (std::size_t panel = 0; panel < n / kPanel; ++panel)
    for (std::size_t b = 0; b < n_blocks; ++b) {
      std::byte* const to = panels + (panel * n_blocks + b) * kPanel * sizeof(Q4_K::Block);
      for (std::size_t r = 0; r < kPanel; ++r) {
        const Q4_K::Block& block = blocks[(panel * kPanel + r) * n_blocks + b];
        std::memcpy(to + 2 * r, &block.d, 2);
        std::memcpy(to + 32 + 2 * r, &block.dmin, 2);
        for (std::size_t i = 0; i < 3; ++i)
          std::memcpy(to + 64 + 64 * i + 4 * r, block.sc + 4 * i, 4);
        for (int g = 0; g < 8; ++g)
          for (int i = 0; i < 16; ++i) {
            const int low = code_at<Q4_K>(bytes_of<Q4_K>(block), g, i),
                      high = code_at<Q4_K>(bytes_of<Q4_K>(block), g, i + 16);
            to[256 + 256 * static_cast<std::size_t>(g) + 64 * static_cast<std::size_t>(i / 4) +
               4 * r + static_cast<std::size_t>(i % 4)] = static_cast<std::byte>(low | high << 4);
          }
      }
    }
}

}  // namespace kquant::ladder
