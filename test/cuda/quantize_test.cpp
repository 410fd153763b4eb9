// The quantizer on the device: the bytes of the CPU's.
#include <limits>

#include "cuda/quantize.hpp"
#include "device.hpp"
#include "quantize/weights.hpp"

using namespace kquant;
using test::random_weights;

namespace {

constexpr std::size_t kRows = 3;

std::vector<std::byte> on_device(const cuda::Device& device, TensorType type,
                                 Span2d<const float> in, const QuantizeOptions& options,
                                 std::size_t piece_weights = 1u << 20) {
  std::vector<std::byte> out(in.rows * row_bytes(type, in.cols), std::byte{0xa5});
  const auto done = cuda::quantize_by_pieces(device, type, in, out, options, piece_weights);
  if (!done) FAIL(done.error().message);
  return out;
}

/// Each effort, without importances and with them, then unbiased too.
void check_same(const cuda::Device& device, TensorType type, const std::vector<float>& x,
                std::size_t cols, const std::vector<Effort>& efforts = {Effort::kFast}) {
  const auto importance = test::random_importance(cols);
  for (const Effort effort : efforts)
    for (const bool weighted : {false, true}) {
      INFO((effort == Effort::kFast ? "fast" : "best") << (weighted ? ", importances" : ""));
      QuantizeOptions options;
      options.effort = effort;
      if (weighted) options.importance = importance;
      options.unbiased = weighted;
      const bool same = on_device(device, type, {x.data(), x.size() / cols, cols}, options) ==
                        test::packed_of(type, x, cols, options);
      CHECK(same);
    }
}

std::vector<float> heavy_tailed(std::size_t n) {
  auto x = random_weights(n, 1.0f, 5);
  const auto by = random_weights(n, 3.0f, 6);
  for (std::size_t i = 0; i < n; ++i) x[i] *= by[i] * by[i] * by[i];
  return x;
}

}  // namespace

TEMPLATE_TEST_CASE("quantizing has the CPU's bytes", "", Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0, Q4_0,
                   Q4_1, Q5_0, Q5_1) {
  const auto device = test::device();
  if (!device) return;
  // 11 blocks of 32 or three of 256: the last ones do not fill the lanes.
  constexpr std::size_t kCols = TestType::kBlock == 32 ? 1376 : 768;
  constexpr std::size_t kWeights = kRows * kCols;
  const auto check = [&](const char* what, const std::vector<float>& x) {
    INFO(what);
    check_same(*device, TestType::type, x, kCols);
  };
  {
    INFO("bell-shaped");
    check_same(*device, TestType::type, random_weights(kWeights, 0.02f), kCols,
               {Effort::kFast, Effort::kBest});
  }
  check("heavy tails", heavy_tailed(kWeights));
  check("zeros", std::vector<float>(kWeights, 0.0f));
  check("all alike", std::vector<float>(kWeights, -0.37f));
  check("denormal", random_weights(kWeights, 1e-41f));
  check("small", random_weights(kWeights, 3e-7f));
  check("huge", random_weights(kWeights, 8e37f));
  check("quantized before",
        test::round_trip(TestType::type, random_weights(kWeights, 0.02f, 9), kCols));
  auto x = random_weights(kWeights, 0.02f);
  for (std::size_t i = 0; i < kWeights; i += 1 + i % 7) x[i] = i % 2 == 0 ? 0.0f : -0.0f;
  x[17] = 1e6f;
  check("zeros of both signs, and one outlier", x);
}

TEST_CASE("quantizing by pieces, rows apart, in every order", "[small]") {
  const auto device = test::device();
  if (!device) return;
  constexpr std::size_t kManyRows = 11, kCols = 512, kStride = 530;
  const auto x = random_weights(kManyRows * kStride, 1.0f);
  const Span2d<const float> in(x.data(), kManyRows, kCols, kStride);
  for (const TensorType type : {TensorType::Q4_K, TensorType::Q3_K, TensorType::Q5_0}) {
    QuantizeOptions options;
    options.effort = Effort::kFast;
    std::vector<std::byte> expected(kManyRows * row_bytes(type, kCols));
    REQUIRE(quantize(type, in, expected, options));
    test::in_every_order([&] {
      for (const std::size_t piece : {std::size_t{1}, 4 * kCols, 100 * kCols}) {
        const bool same = on_device(*device, type, in, options, piece) == expected;
        CHECK(same);
      }
    });
  }
}

TEST_CASE("quantizing on the device refuses what the CPU refuses, in the same words") {
  const auto device = test::device();
  if (!device) return;
  constexpr std::size_t kCols = 768;
  const auto good = random_weights(kRows * kCols, 1.0f);
  std::vector<std::byte> out(kRows * row_bytes(TensorType::Q6_K, kCols));
  const auto check = [&](const std::vector<float>& x, const QuantizeOptions& options,
                         std::size_t bytes, std::size_t piece) {
    const Span2d<const float> in(x.data(), kRows, kCols);
    const auto to = std::span(out).first(bytes);
    const auto expected = quantize(TensorType::Q6_K, in, to, options);
    const auto found = cuda::quantize_by_pieces(*device, TensorType::Q6_K, in, to, options, piece);
    REQUIRE_FALSE(expected);
    REQUIRE_FALSE(found);
    CHECK(found.error().code == expected.error().code);
    CHECK(found.error().message == expected.error().message);
  };
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()})
    for (const std::size_t piece : {kCols, 100 * kCols}) {
      auto x = good;
      x[kCols + 517] = bad;
      x[2 * kCols + 3] = bad;
      check(x, {}, out.size(), piece);
    }
  check(good, {}, out.size() - 1, kCols);
  check(good, {.importance_floor = -1}, out.size(), kCols);
  const auto again = on_device(*device, TensorType::Q6_K, {good.data(), kRows, kCols}, {});
  CHECK((again == test::packed_of(TensorType::Q6_K, good, kCols)));
}

TEST_CASE("types without a search are rounded as by the CPU") {
  const auto device = test::device();
  if (!device) return;
  const auto x = random_weights(2 * 256, 1.0f);
  for (const TensorType type : {TensorType::F16, TensorType::BF16, TensorType::Q8_K}) {
    std::vector<std::byte> out(2 * row_bytes(type, 256));
    REQUIRE(cuda::quantize(*device, type, {x.data(), 2, 256}, out));
    CHECK((out == test::packed_of(type, x, 256)));
  }
}
