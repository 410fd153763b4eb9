#include "cuda/pack.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "cuda/layout.hpp"

namespace kquant::cuda {
namespace {

/// Largest scale that a format can have: with factor d it bounds the scales of a block.
template <class F>
constexpr int kMostScale = DeviceLayout<F>::kScaleWords == 0 ? 1
                           : F::type == TensorType::Q2_K     ? 15
                           : F::type == TensorType::Q6_K     ? 128
                                                             : 63;
/// The power of two that brings numbers up to `most` to 2^k … 2^(k + 1).
int exponent_for(float most, int k) {
  if (!(most > 0) || !std::isfinite(most)) return 0;
  return std::clamp(k - std::ilogb(most), -40, 80);
}

Half times_power(Half h, int exponent) {
  return to_half(std::ldexp(to_float(h), exponent));
}

/// or-s bits of a code into their plane.
void put(std::byte* unit, int plane_at, int bits, int below, const Place& place, unsigned code) {
  const Field at = field(bits, below, place.chunk, place.h, place.pair);
  std::byte* p = unit + word_at(plane_at, at, place.lane);
  std::uint32_t word;
  std::memcpy(&word, p, 4);
  word |= code << (at.bit + 16 * place.half);
  std::memcpy(p, &word, 4);
}

/// Q4_1 and Q5_1 have the min - 1: their m is added as it is.
template <class F>
constexpr bool min_is_added = [] {
  if constexpr (DeviceLayout<F>::kScaleWords > 0 || !F::kHasMin)
    return false;
  else
    return F::unpack_scales(typename F::Block{}).min_at(0) < 0;
}();

template <class F>
float most_of(const typename F::Block& block) {
  return std::max(std::fabs(F::d(block)) * kMostScale<F>, std::fabs(F::dmin(block)));
}

/// Row `r` of the 16 that begin at `units`.
template <class F>
float pack_row(const std::byte* row, std::size_t cols, int r, std::byte* units) {
  using L = DeviceLayout<F>;
  const std::size_t n = cols / F::kBlock;
  const auto block_at = [&](std::size_t b) {
    typename F::Block block;
    std::memcpy(&block, row + b * sizeof block, sizeof block);
    return block;
  };
  float most = 0;
  for (std::size_t b = 0; b < n; ++b)
    if (const float m = most_of<F>(block_at(b)); std::isfinite(m)) most = std::max(most, m);
  const int exponent = exponent_for(most, 14);

  for (std::size_t b = 0; b < n; ++b) {
    const typename F::Block block = block_at(b);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&block);
    std::byte* unit = units + b / L::kBlocks * L::kUnitBytes;
    const int in_unit = static_cast<int>(b % L::kBlocks);
    for (int i = 0; i < F::kBlock; ++i) {
      int q = code_at<F>(bytes, i / F::kRun, i % F::kRun);
      if (F::kSigned) q += 128;
      const Place place = place_of(r, in_unit * F::kBlock + i);
      const auto code = static_cast<unsigned>(q);
      put(unit, 0, L::kLowBits, 0, place, code & ((1u << L::kLowBits) - 1u));
      if constexpr (L::kHighBits > 0)
        put(unit, L::kLowBits * kVector, L::kHighBits, L::kLowBits, place, code >> L::kLowBits);
    }
    if constexpr (L::kScaleWords > 0)
      std::memcpy(unit + L::kScalesAt + r * L::kRowScales, block.sc, sizeof block.sc);
    // F::d and F::dmin are halves in every weight format: exact.
    const float addend = min_is_added<F> ? F::dmin(block) : -F::dmin(block);
    const Half factors[2] = {times_power(to_half(F::d(block)), exponent),
                             times_power(to_half(addend), exponent)};
    std::memcpy(unit + L::kFactorsAt + r * L::kRowFactors + in_unit * L::kFactors * 2, factors,
                L::kFactors * 2);
  }
  return std::ldexp(1.0f / L::kCodeUnit, -exponent);
}

float pack_plain_row(std::span<const float> row, int r, std::byte* units) {
  float most = 0;
  for (const float x : row)
    if (std::isfinite(x)) most = std::max(most, std::fabs(x));
  const int exponent = exponent_for(most, 13);
  for (std::size_t col = 0; col < row.size(); ++col) {
    const Place place = place_of(r, static_cast<int>(col % kUnitCols));
    put(units + col / kUnitCols * DeviceLayout<F16>::kUnitBytes, 0, 16, 0, place,
        to_half(std::ldexp(row[col], exponent)).bits);
  }
  return std::ldexp(1.0f, -exponent);
}

}  // namespace

std::size_t unit_bytes(TensorType type) {
  std::size_t bytes = 0;
  DeviceFormats::visit(device_type(type), [&]<class F>() {
    bytes = static_cast<std::size_t>(DeviceLayout<F>::kUnitBytes);
  });
  return bytes;
}

std::size_t packed_bytes(TensorType type, std::size_t rows, std::size_t cols) {
  return unit_rows_of(rows) * units_of(cols) * unit_bytes(type);
}

MatrixSlice MatrixSlice::rows_from(std::size_t first, std::size_t n) const {
  MatrixSlice out = *this;
  out.rows = n;
  out.data = row(first);
  return out;
}

MatrixSlice MatrixSlice::cols_from(std::size_t first, std::size_t n) const {
  MatrixSlice out = *this;
  out.cols = n;
  out.data = data + row_bytes(type, first);
  return out;
}

void pack(const MatrixSlice& w, std::span<std::byte> out, std::span<float> row_scale) {
  const std::size_t row_of_units = units_of(w.cols) * unit_bytes(w.type);
  const std::size_t n = unit_rows_of(w.rows);
#pragma omp parallel for schedule(static)
  for (std::size_t tile = 0; tile < n; ++tile) {
    std::byte* units = out.data() + tile * row_of_units;
    std::memset(units, 0, row_of_units);
    std::vector<float> plain;
    for (int r = 0; r < kUnitRows; ++r) {
      const std::size_t row = tile * kUnitRows + static_cast<std::size_t>(r);
      float& scale = row_scale[row];
      scale = 0;
      if (row >= w.rows) continue;
      const bool block = WeightFormats::visit(
          w.type, [&]<class F>() { scale = pack_row<F>(w.row(row), w.cols, r, units); });
      if (block) continue;
      plain.resize(w.cols);
      dequantize_rows({w.type, 1, w.cols, w.row(row)}, 0, {plain.data(), 1, w.cols});
      scale = pack_plain_row(plain, r, units);
    }
  }
}

}  // namespace kquant::cuda
