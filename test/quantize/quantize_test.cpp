// What quantize(), dequantize() and measure_error() promise, for every type.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/every_isa.hpp"
#include "weights.hpp"
#include "worst.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

constexpr std::size_t kRows = 5, kCols = 768;

}  // namespace

TEST_CASE("each format stores bell-shaped weights about as well as its bits allow") {
  const auto x = random_weights(kRows * kCols, 1.0f);
  const auto check = [&]<class F>() {
    INFO(F::name);
    // A uniform quantizer over +-3 sigma: the step is 6 sigma / 2^bits, its error step / sqrt(12).
    const double step = 6 / std::pow(2.0, F::kBits);
    CHECK(error_of(F::type, x, kCols).rel_rmse() < step / std::sqrt(12.0));
  };
  WeightFormats::for_each(check);
  ActivationFormats::for_each(check);
  CHECK(error_of(TensorType::F16, x, kCols).rel_rmse() < 0x1p-11);
  CHECK(error_of(TensorType::BF16, x, kCols).rel_rmse() < 0x1p-8);
  CHECK(error_of(TensorType::F32, x, kCols).rel_rmse() == 0);
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
      CHECK((packed_of(type, x, kCols, options) == one));
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

TEST_CASE("arguments that make no sense are refused, with the reason") {
  const auto x = random_weights(2 * 256, 1.0f);
  std::vector<std::byte> out(2 * row_bytes(TensorType::Q4_K, 256));
  const Span2d<const float> in(x.data(), 2, 256);
  const auto message = [](const Result<void>& result, ErrorCode code) -> std::string {
    if (result) return "no error";
    CHECK(result.error().code == code);
    return result.error().message;
  };
  constexpr auto kBad = ErrorCode::kInvalidArgument;
  CHECK(message(quantize(TensorType::IQ2_XS, in, out), kBad) == "quantize: cannot write IQ2_XS");
  CHECK(message(quantize(static_cast<TensorType>(4711), in, out), kBad) ==
        "quantize: cannot write type 4711");
  CHECK_THAT(message(quantize(TensorType::Q4_K, {x.data(), 2, 255}, out), kBad),
             Catch::Contains("255 columns"));
  CHECK_THAT(message(quantize(TensorType::Q4_K, in, std::span(out).first(287)), kBad),
             Catch::Contains("288 bytes, not 287"));
  CHECK_THAT(message(quantize(TensorType::Q4_K, {x.data(), 2, 256, 128}, out), kBad),
             Catch::Contains("overlap"));

  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  for (const float bad : {0.0f, -1.0f, nan, inf}) {
    QuantizeOptions distrusting;
    distrusting.importance_floor = bad;
    CHECK_THAT(message(quantize(TensorType::Q4_K, in, out, distrusting), kBad),
               Catch::Contains("importance floor"));
  }
  QuantizeOptions options;
  std::vector<float> importance(255, 1.0f);
  options.importance = importance;
  CHECK_THAT(message(quantize(TensorType::Q4_K, in, out, options), kBad),
             Catch::Contains("255 importances for 256 columns"));
  importance.resize(256, 1.0f);
  for (const float bad : {-1.0f, nan, inf, -inf}) {
    importance[9] = bad;
    options.importance = importance;
    CHECK_THAT(message(quantize(TensorType::Q4_K, in, out, options), kBad),
               Catch::Contains("importance of column 9"));
    CHECK_FALSE(measure_error(TensorType::Q4_K, in, out, options));
  }
  options = {};
  options.threads = -1;
  CHECK_THAT(message(quantize(TensorType::Q4_K, in, out, options), kBad),
             Catch::Contains("-1 threads"));

  std::vector<float> y(2 * 256);
  CHECK_THAT(
      message(dequantize(TensorType::IQ4_NL, out, {y.data(), 2, 256}), ErrorCode::kUnsupported),
      Catch::Contains("IQ4_NL"));
  CHECK_THAT(
      message(dequantize(TensorType::Q4_K, std::span(out).first(3), {y.data(), 2, 256}), kBad),
      Catch::Contains("288 bytes, not 3"));
  CHECK_FALSE(can_quantize(TensorType::I32));
}

TEST_CASE("no rows or no columns are no work and no error") {
  for_each_type([&](TensorType type) {
    CHECK(quantize(type, Span2d<const float>(nullptr, 0, 256), {}));
    CHECK(quantize(type, Span2d<const float>(nullptr, 3, 0), {}));
    CHECK(dequantize(type, {}, Span2d<float>(nullptr, 0, 256)));
    CHECK(measure_error(type, Span2d<const float>(nullptr, 0, 256), {})->rel_rmse() == 0);
  });
}

TEST_CASE("error sums add up over rows, and weigh columns") {
  const auto x = random_weights(kRows * kCols, 0.3f);
  const auto importance = random_importance(kCols);
  QuantizeOptions options;
  options.importance = importance;
  const auto packed = packed_of(TensorType::Q3_K, x, kCols);
  const auto y = unpacked(TensorType::Q3_K, packed, kCols);
  const Span2d<const float> in(x.data(), kRows, kCols);
  const auto whole = measure_error(TensorType::Q3_K, in, packed, options).value();

  QuantizationError parts;
  const std::size_t bytes = row_bytes(TensorType::Q3_K, kCols);
  for (std::size_t r = 0; r < kRows; ++r)
    parts += measure_error(TensorType::Q3_K, in.middle_rows(r, 1),
                           std::span(packed).subspan(r * bytes, bytes), options)
                 .value();
  CHECK(parts.error == whole.error);
  CHECK(parts.weighted_power == whole.weighted_power);

  double error = 0, weighted = 0, power = 0, weighted_power = 0, largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double off = double{x[i]} - double{y[i]}, w = importance[i % kCols];
    error += off * off;
    weighted += w * off * off;
    power += double{x[i]} * double{x[i]};
    weighted_power += w * double{x[i]} * double{x[i]};
    largest = test::worse(largest, std::fabs(off));
  }
  CHECK(whole.rel_rmse() == Approx(std::sqrt(error / power)));
  CHECK(whole.weighted_rel_rmse() == Approx(std::sqrt(weighted / weighted_power)));
  CHECK(whole.max_abs == largest);
}

TEST_CASE("the bytes are the same for every compiler, optimisation level, sanitizer and ISA") {
  // FNV-1a of what all types make of one input, with and without importance. A change of the
  // quantizer that changes its output changes this number; nothing else may.
  const auto x = random_weights(2 * kRows * kCols, 0.05f, 3);
  const auto importance = random_importance(kCols);
  for_each_isa([&](Isa) {
    for (const bool unbiased : {false, true}) {
      std::uint64_t hash = 14695981039346656037u;
      for_each_type([&](TensorType type) {
        for (const Effort effort : {Effort::kFast, Effort::kBest})
          for (const bool weighted : {false, true}) {
            QuantizeOptions options;
            options.effort = effort;
            options.unbiased = unbiased;
            if (weighted) options.importance = importance;
            for (const std::byte b : packed_of(type, x, kCols, options))
              hash = (hash ^ static_cast<std::uint64_t>(b)) * 1099511628211u;
          }
      });
      CHECK(hash == (unbiased ? 0xf0d45d1acc97724cu : 0xc14d64162da24f47u));
    }
  });
}

TEST_CASE("the longer search is never worse by more than chance") {
  const auto x = random_weights(64 * 1024, 0.02f);
  const auto importance = random_importance(1024);
  WeightFormats::for_each([&]<class F>() {
    for (const bool weighted : {false, true}) {
      INFO(F::name << (weighted ? ", weighted" : ""));
      QuantizeOptions options;
      if (weighted) options.importance = importance;
      options.effort = Effort::kFast;
      const auto fast = error_of(F::type, x, 1024, options);
      options.effort = Effort::kBest;
      const auto best = error_of(F::type, x, 1024, options);
      CHECK(best.rel_rmse() <= (weighted ? 1.01 : 1.0005) * fast.rel_rmse());
      CHECK(fast.rel_rmse() <= 1.05 * best.rel_rmse());
    }
  });
}

TEST_CASE("a block does not depend on its neighbours") {
  // Blocks share the lanes of a search; what lies beside them must not show.
  const auto x = random_weights(3 * 2048, 0.02f), others = random_weights(3 * 2048, 5.0f, 9);
  WeightFormats::for_each([&]<class F>() {
    INFO(F::name);
    for (const Effort effort : {Effort::kFast, Effort::kBest}) {
      QuantizeOptions options;
      options.effort = effort;
      const auto all = packed_of(F::type, x, 2048, options);
      for (const std::size_t first : std::initializer_list<std::size_t>{0, 256, 1024, 1792}) {
        auto among_others = others;
        std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(2048 + first), 256,
                    among_others.begin() + static_cast<std::ptrdiff_t>(2048 + first));
        const auto mixed = packed_of(F::type, among_others, 2048, options);
        const std::size_t at = row_bytes(F::type, 2048 + first), bytes = row_bytes(F::type, 256);
        CHECK(std::equal(all.begin() + static_cast<std::ptrdiff_t>(at),
                         all.begin() + static_cast<std::ptrdiff_t>(at + bytes),
                         mixed.begin() + static_cast<std::ptrdiff_t>(at)));
      }
    }
  });
}
