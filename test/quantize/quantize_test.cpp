// What quantize(), dequantize() and measure_error() promise, for every type.

#include "kquant/quantize.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kquant/format/all.hpp"

using namespace kquant;

namespace {

constexpr std::size_t kRows = 5, kCols = 768;

/// Bell-shaped numbers of a given magnitude, from integers alone: the same on every machine.
std::vector<float> random_weights(std::size_t n, float magnitude, std::uint64_t seed = 1) {
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

std::vector<float> random_importance(std::size_t n) {
  std::vector<float> w = random_weights(n, 1.0f, 77);
  for (float& v : w) v = v * v;
  return w;
}

std::vector<std::byte> packed_of(TensorType type, const std::vector<float>& x, std::size_t cols,
                                 const QuantizeOptions& options = {}) {
  const std::size_t rows = x.size() / cols;
  std::vector<std::byte> out(rows * row_bytes(type, cols));
  const auto ok = quantize(type, {x.data(), rows, cols}, out, options);
  if (!ok) FAIL(ok.error().message);
  return out;
}

std::vector<float> round_trip(TensorType type, const std::vector<float>& x, std::size_t cols,
                              const QuantizeOptions& options = {}) {
  const auto packed = packed_of(type, x, cols, options);
  std::vector<float> y(x.size());
  REQUIRE(dequantize(type, packed, {y.data(), x.size() / cols, cols}));
  return y;
}

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

double error_of(TensorType type, const std::vector<float>& x, std::size_t cols,
                const QuantizeOptions& options = {}) {
  const auto packed = packed_of(type, x, cols, options);
  return measure_error(type, {x.data(), x.size() / cols, cols}, packed, options)->rel_rmse();
}

}  // namespace

TEST_CASE("each format stores bell-shaped weights about as well as its bits allow") {
  const auto x = random_weights(kRows * kCols, 1.0f);
  const auto check = [&]<class F>() {
    INFO(F::name);
    // A uniform quantizer over +-3 sigma: the step is 6 sigma / 2^bits, its error step / sqrt(12).
    const double step = 6 / std::pow(2.0, F::kBits);
    CHECK(error_of(F::type, x, kCols) < step / std::sqrt(12.0));
  };
  WeightFormats::for_each(check);
  ActivationFormats::for_each(check);
  CHECK(error_of(TensorType::F16, x, kCols) < 0x1p-11);
  CHECK(error_of(TensorType::BF16, x, kCols) < 0x1p-8);
  CHECK(error_of(TensorType::F32, x, kCols) == 0);
}

TEST_CASE("the bytes do not depend on the number of threads") {
  const auto x = random_weights(kRows * kCols, 0.02f);
  const auto importance = random_importance(kCols);
  for_each_type([&](TensorType type) {
    QuantizeOptions options;
    options.importance = importance;
    options.threads = 1;
    const auto one = packed_of(type, x, kCols, options);
    for (const int threads : {2, 3, 8}) {
      options.threads = threads;
      CHECK(packed_of(type, x, kCols, options) == one);
    }
  });
}

TEST_CASE("a NaN or an infinity is an error that names row and column") {
  for_each_type([&](TensorType type) {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()}) {
      auto x = random_weights(kRows * kCols, 1.0f);
      x[3 * kCols + 517] = bad;
      x[4 * kCols + 2] = bad;
      std::vector<std::byte> out(kRows * row_bytes(type, kCols));
      const auto result = quantize(type, {x.data(), kRows, kCols}, out);
      REQUIRE_FALSE(result);
      CHECK(result.error().code == ErrorCode::kBadData);
      CHECK_THAT(result.error().message, Catch::StartsWith("row 3, column 517:"));
    }
  });
}

TEST_CASE("whatever the magnitude, what comes back is finite and of a sane size") {
  for_each_type([&](TensorType type) {
    for (const float magnitude :
         {0.0f, 1e-45f, 1e-38f, 1e-30f, 1e-8f, 1e-4f, 1.0f, 1e4f, 1e8f, 1e20f, 8e37f}) {
      const auto x = random_weights(2 * kCols, magnitude);
      const auto y = round_trip(type, x, kCols);
      float largest = 0, largest_back = 0;
      bool finite = true;
      for (std::size_t i = 0; i < x.size(); ++i) {
        largest = std::max(largest, std::fabs(x[i]));
        largest_back = std::max(largest_back, std::fabs(y[i]));
        finite = finite && std::isfinite(y[i]);
      }
      INFO(magnitude);
      CHECK(finite);
      CHECK(largest_back <= 1.3f * largest);
    }
  });
}
