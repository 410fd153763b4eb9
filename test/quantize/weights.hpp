#pragma once
// Inputs for the quantizer's tests, from integers alone: the same on every machine. And the calls
// that every test makes.

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "kquant/format/all.hpp"
#include "kquant/quantize.hpp"

namespace kquant::test {

/// Bell-shaped numbers: sums of four uniform ones, deviation about 1.15 * magnitude / 2.
inline std::vector<float> random_weights(std::size_t n, float magnitude, std::uint64_t seed = 1) {
  std::vector<float> x(n);
  std::uint64_t state = seed;
  for (float& value : x) {
    int sum = 0;
    for (int i = 0; i < 4; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      sum += static_cast<int>(state >> 48) - 32768;
    }
    value = static_cast<float>(sum) * 0x1p-16f * magnitude;
  }
  return x;
}

/// Non-negative and uneven, as mean squared activations are.
inline std::vector<float> random_importance(std::size_t n) {
  std::vector<float> w = random_weights(n, 1.0f, 77);
  for (float& v : w) v = v * v;
  return w;
}

inline std::vector<std::byte> packed_of(TensorType type, const std::vector<float>& x,
                                        std::size_t cols, const QuantizeOptions& options = {}) {
  const std::size_t rows = x.size() / cols;
  std::vector<std::byte> out(rows * row_bytes(type, cols));
  const auto ok = quantize(type, {x.data(), rows, cols}, out, options);
  if (!ok) FAIL(ok.error().message);
  return out;
}

inline std::vector<float> unpacked(TensorType type, const std::vector<std::byte>& packed,
                                   std::size_t cols) {
  const std::size_t rows = packed.size() / row_bytes(type, cols);
  std::vector<float> y(rows * cols);
  const auto ok = dequantize(type, packed, {y.data(), rows, cols});
  if (!ok) FAIL(ok.error().message);
  return y;
}

inline std::vector<float> round_trip(TensorType type, const std::vector<float>& x, std::size_t cols,
                                     const QuantizeOptions& options = {}) {
  return unpacked(type, packed_of(type, x, cols, options), cols);
}

/// Weighted by `weighing` where given, whatever the quantizer was told.
inline QuantizationError error_of(TensorType type, const std::vector<float>& x, std::size_t cols,
                                  const QuantizeOptions& options = {},
                                  std::span<const float> weighing = {}) {
  QuantizeOptions measuring;
  measuring.importance = weighing;
  const auto packed = packed_of(type, x, cols, options);
  const auto error = measure_error(type, {x.data(), x.size() / cols, cols}, packed, measuring);
  if (!error) FAIL(error.error().message);
  return *error;
}

/// fn(type) for every type that can be written.
template <class Fn>
void for_each_type(Fn&& fn) {
  const auto call = [&]<class F>() {
    INFO(F::name);
    fn(F::type);
  };
  WeightFormats::for_each(call);
  ActivationFormats::for_each(call);
  PlainFormats::for_each(call);
}

}  // namespace kquant::test
