// What must hold for the quantizer whatever the weights are.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "weights.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

/// Quantization without any search: one scale (and min) for the whole block, from its extremes.
template <class F>
typename F::Block plain_block(const float* x) {
  constexpr int kSign = F::kHasMin && kSubs<F> == 1 ? -1 : 1;  // Q4_1, Q5_1 add their min
  constexpr int kTop = F::kSigned ? 127 : (1 << F::kBits) - 1 - F::kZero;
  typename F::Block block{};
  ScaleWords<kSubs<F>> words{};
  for (int j = 0; j < kSubs<F>; ++j) {
    words.set_scale(j, kSubs<F> == 1 ? 1 : 15);
    words.set_min(j, kSubs<F> == 1 ? kSign : 15);
  }
  F::pack_scales(words, block);
  const float per = kSubs<F> == 1 ? 1.0f : 15.0f;
  float low = 0, high = 0;
  for (int i = 0; i < F::kBlock; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  if (F::kHasMin)
    F::set_d(block, (high - low) / (per * kTop), kSign * -low / per);
  else
    F::set_d(block, std::max(high, -low) / (per * kTop), 0);
  const float scale = F::d(block) * per, min = F::kHasMin ? kSign * F::dmin(block) * per : 0.0f;
  for (int g = 0; g < kRuns<F>; ++g)
    for (int i = 0; i < F::kRun; ++i) {
      const float c = scale > 0 ? std::nearbyint((x[g * F::kRun + i] + min) / scale) : 0.0f;
      const float bottom = F::kSigned ? -127.0f : static_cast<float>(-F::kZero);
      const int code = static_cast<int>(std::clamp(c, bottom, static_cast<float>(kTop)));
      put_code<F>(bytes_of<F>(block), g, i, code + F::kZero);
    }
  return block;
}

std::vector<float> negated(std::vector<float> x) {
  for (float& v : x) v = -v;
  return x;
}

std::vector<float> times(std::vector<float> x, float by) {
  for (float& v : x) v *= by;
  return x;
}

/// Blocks of every kind: bell-shaped, one-sided, constant, sparse, one outlier, alternating, ramp.
std::vector<float> kinds_of_blocks() {
  auto x = random_weights(12 * 256, 0.1f, 5);
  const auto block = [&](std::size_t b, auto&& fn) {
    for (std::size_t i = 0; i < 256; ++i) x[256 * b + i] = fn(x[256 * b + i], i);
  };
  block(1, [](float v, std::size_t) { return std::fabs(v); });
  block(2, [](float v, std::size_t) { return -std::fabs(v); });
  block(3, [](float, std::size_t) { return 0.7f; });
  block(4, [](float, std::size_t) { return -0.7f; });
  block(5, [](float v, std::size_t i) { return i % 37 == 5 ? v : 0.0f; });
  block(6, [](float v, std::size_t i) { return i == 100 ? 5.0f : v; });
  block(7, [](float, std::size_t i) { return i % 2 ? 0.125f : -0.125f; });
  block(8, [](float, std::size_t i) { return static_cast<float>(i) / 256; });
  block(9, [](float v, std::size_t) { return 3.0f + 0.01f * v; });
  block(10, [](float v, std::size_t i) { return i / 16 == 3 ? v : 1e-2f * v; });
  block(11, [](float, std::size_t) { return 0.0f; });
  return x;
}

}  // namespace

TEST_CASE("no block is worse than plain rounding to its extremes") {
  const auto x = kinds_of_blocks();
  WeightFormats::for_each([&]<class F>() {
    for (std::size_t at = 0; at < x.size(); at += F::kBlock) {
      INFO(F::name << ", weight " << at);
      const std::vector<float> one(x.data() + at, x.data() + at + F::kBlock);
      const auto plain = plain_block<F>(one.data());
      std::vector<std::byte> bytes(sizeof plain);
      std::memcpy(bytes.data(), &plain, sizeof plain);
      const auto simple = measure_error(F::type, {one.data(), 1, one.size()}, bytes);
      REQUIRE(simple);
      const auto searched = error_of(F::type, one, F::kBlock);
      // But for the luck of rounding d and dmin to binary16: up to 2^-11 of a value, each.
      CHECK(searched.error <= simple->error * 1.0001 + 0x1p-19 * searched.power);
    }
  });
}

TEST_CASE("constant and two-valued blocks come back almost exactly") {
  WeightFormats::for_each([]<class F>() {
    INFO(F::name);
    for (const float value : {0.5f, -0.25f, 0.7f, -123.0f}) {
      CHECK(error_of(F::type, std::vector<float>(F::kBlock, value), F::kBlock).rel_rmse() < 6e-4);
      std::vector<float> two(F::kBlock, value);
      for (std::size_t i = 0; i < two.size(); i += 2) two[i] = 0;
      CHECK(error_of(F::type, two, F::kBlock).rel_rmse() < 6e-4);
    }
    CHECK(error_of(F::type, std::vector<float>(F::kBlock, 0.0f), F::kBlock).error == 0);
  });
}

TEST_CASE("weights of opposite sign get opposite values where a format has no mins") {
  const auto x = random_weights(3 * 768, 0.1f);
  const auto check = [&]<class F>() {
    INFO(F::name);
    const bool opposite =
        round_trip(F::type, negated(x), 768) == negated(round_trip(F::type, x, 768));
    CHECK((opposite || F::kHasMin));
  };
  WeightFormats::for_each(check);
  ActivationFormats::for_each(check);
}

TEST_CASE("a power of two in the weights is a power of two in the values") {
  // Large enough that no d is subnormal in binary16.
  const auto x = random_weights(3 * 768, 100.0f);
  const auto importance = random_importance(768);
  QuantizeOptions options;
  options.importance = importance;
  for_each_type([&](TensorType type) {
    const auto values = round_trip(type, x, 768, options);
    const bool scaled = round_trip(type, times(x, 16.0f), 768, options) == times(values, 16.0f);
    CHECK(scaled);
  });
}

TEST_CASE("blocks do not know their neighbours") {
  const auto x = random_weights(2 * 768, 0.1f);
  for_each_type([&](TensorType type) {
    const auto rows = packed_of(type, x, 768);
    CHECK((packed_of(type, x, 256) == rows));
    // Two rows out of a wider matrix.
    std::vector<float> wide(2 * 1000);
    for (std::size_t i = 0; i < x.size(); ++i) wide[i / 768 * 1000 + i % 768] = x[i];
    std::vector<std::byte> out(rows.size());
    REQUIRE(quantize(type, {wide.data(), 2, 768, 1000}, out));
    CHECK((out == rows));
  });
}

TEST_CASE("importance moves error away from what matters") {
  const auto x = random_weights(8 * 256, 0.1f);
  std::vector<float> importance(256, 1.0f);
  for (std::size_t k = 0; k < 256; k += 8) importance[k] = 100.0f;
  QuantizeOptions options;
  options.importance = importance;
  WeightFormats::for_each([&]<class F>() {
    INFO(F::name);
    const double without = error_of(F::type, x, 256, {}, importance).weighted_rel_rmse();
    const double with = error_of(F::type, x, 256, options, importance).weighted_rel_rmse();
    CHECK(with < 0.95 * without);
  });
}

TEST_CASE("the less of a floor, the less error where it is weighed, and the more elsewhere") {
  const auto x = random_weights(64 * 1024, 0.02f);
  const auto importance = random_importance(1024);
  WeightFormats::for_each([&]<class F>() {
    INFO(F::name);
    QuantizeOptions trusting, careful;
    trusting.importance = careful.importance = importance;
    trusting.importance_floor = 0.01f;
    careful.importance_floor = 1.0f;
    const auto some = error_of(F::type, x, 1024, trusting, importance);
    const auto more = error_of(F::type, x, 1024, careful, importance);
    CHECK(some.weighted_rel_rmse() < more.weighted_rel_rmse());
    CHECK(some.rel_rmse() > more.rel_rmse());
  });
}

TEST_CASE("unbiased rows are as long as they were, for a little error") {
  constexpr std::size_t kCols = 1024;
  const auto x = random_weights(16 * kCols, 0.02f);
  WeightFormats::for_each([&]<class F>() {
    INFO(F::name);
    const auto share = [&](const std::vector<float>& y) {
      double whole = 0, kept = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        whole += double{x[i]} * double{x[i]};
        kept += double{x[i]} * double{y[i]};
      }
      return kept / whole;
    };
    const auto least = error_of(F::type, x, kCols),
               unbiased = error_of(F::type, x, kCols, {.unbiased = true});
    const double relative = least.error / least.power;
    CHECK(share(round_trip(F::type, x, kCols)) == Approx(1 - relative).margin(3e-4));
    CHECK(share(round_trip(F::type, x, kCols, {.unbiased = true})) == Approx(1).margin(3e-4));
    CHECK(unbiased.error < least.error / (1 - relative) * 1.01);
    // What is stored as it is stays.
    const auto stored = round_trip(F::type, x, kCols);
    const auto again = round_trip(F::type, stored, kCols);
    const auto still = round_trip(F::type, stored, kCols, {.unbiased = true});
    std::size_t exact = 0;
    for (std::size_t at = 0; at < x.size(); at += F::kBlock) {
      const auto same = [&](const std::vector<float>& y) {
        return std::equal(y.data() + at, y.data() + at + F::kBlock, stored.data() + at);
      };
      if (!same(again)) continue;
      CHECK(same(still));
      ++exact;
    }
    CHECK(exact > 0);
  });
}

TEST_CASE("only the proportions of importances count, and all zero is as good as none") {
  const auto x = random_weights(2 * 768, 0.1f);
  const auto importance = random_importance(768);
  for_each_type([&](TensorType type) {
    QuantizeOptions options;
    options.importance = importance;
    const auto bytes = packed_of(type, x, 768, options);
    for (const float by : {0x1p-100f, 0x1p100f}) {
      const auto scaled = times(importance, by);
      options.importance = scaled;
      CHECK((packed_of(type, x, 768, options) == bytes));
    }
    const std::vector<float> zeros(768, 0.0f), huge(768, std::numeric_limits<float>::max());
    options.importance = zeros;
    CHECK((packed_of(type, x, 768, options) == packed_of(type, x, 768)));
    // Weights no reader of the imatrix has ever seen: still a sane result.
    options.importance = huge;
    CHECK(error_of(type, x, 768, options).rel_rmse() < 0.3);
  });
}

TEST_CASE("values beyond a format's range become its largest, never an infinity") {
  for_each_type([&](TensorType type) {
    if (type == TensorType::F32 || type == TensorType::BF16 || type == TensorType::Q8_K) return;
    const auto at_edge = round_trip(type, std::vector<float>(256, 4e8f), 256);
    for (const float beyond : {1e12f, std::numeric_limits<float>::max()}) {
      CHECK((round_trip(type, std::vector<float>(256, beyond), 256) == at_edge));
      const auto negative = round_trip(type, std::vector<float>(256, -beyond), 256);
      CHECK(std::isfinite(negative[0]));
      CHECK(negative[0] <= -65504.0f);
    }
    CHECK(std::isfinite(at_edge[0]));
    CHECK(at_edge[0] >= 65504.0f);
  });
  const auto largest = round_trip(
      TensorType::BF16, {std::numeric_limits<float>::max(), -std::numeric_limits<float>::max()}, 2);
  CHECK(largest[0] == 0x1.fep127f);
  CHECK(largest[1] == -0x1.fep127f);
}

TEST_CASE("activation blocks carry the sums of their codes") {
  const auto x = random_weights(256, 3.0f);
  const auto k = packed_of(TensorType::Q8_K, x, 256);
  Q8_K::Block block;
  std::memcpy(&block, k.data(), sizeof block);
  for (int group = 0; group < 16; ++group) {
    int sum = 0;
    for (int i = 0; i < 16; ++i) sum += static_cast<std::int8_t>(block.q[16 * group + i]);
    CHECK(block.sums[group] == sum);
  }
  const auto one = packed_of(TensorType::Q8_1, x, 256);
  for (std::size_t b = 0; b < 8; ++b) {
    Q8_1::Block q;
    std::memcpy(&q, one.data() + b * sizeof q, sizeof q);
    int sum = 0;
    for (const std::uint8_t code : q.q) sum += static_cast<std::int8_t>(code);
    CHECK(q.s.bits == to_half(to_float(q.d) * static_cast<float>(sum)).bits);
  }
}
