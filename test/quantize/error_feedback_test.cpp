#include "kquant/error_feedback.hpp"

#include <cmath>
#include <limits>

#include "weights.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

constexpr std::size_t kCols = 512, kRows = 24;

/// Moments of inputs that are mixtures of a few directions, some columns much louder than others:
/// as activations are. Another seed is another text of the same kind. related: how loud the
/// directions are beside what is each column's own.
std::vector<float> moments_of_inputs(std::uint64_t seed, std::size_t tokens = 900,
                                     float related = 1) {
  constexpr std::size_t kDirections = 40;
  const auto directions = random_weights(kDirections * kCols, 1.0f, 4);
  const auto loudness = random_importance(kCols);
  const auto shares = random_weights(tokens * kDirections, 1.0f, seed);
  const auto noise = random_weights(tokens * kCols, 0.5f, seed + 1);
  std::vector<float> h(kCols * kCols), x(kCols);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t k = 0; k < kCols; ++k) {
      x[k] = noise[t * kCols + k];
      for (std::size_t d = 0; d < kDirections; ++d)
        x[k] += related * shares[t * kDirections + d] * directions[d * kCols + k];
      x[k] *= 0.1f + loudness[k];
    }
    for (std::size_t i = 0; i < kCols; ++i)
      for (std::size_t k = 0; k < kCols; ++k) h[i * kCols + k] += x[i] * x[k];
  }
  return h;
}

Span2d<const float> square(const std::vector<float>& h) {
  return {h.data(), kCols, kCols};
}

ErrorFeedback prepared(const std::vector<float>& h, std::size_t inputs = 100 * kCols) {
  auto feedback = ErrorFeedback::prepare(square(h), inputs);
  REQUIRE(feedback);
  return std::move(*feedback);
}

std::vector<float> fed(const ErrorFeedback& feedback, TensorType type, const std::vector<float>& w,
                       int threads = 0) {
  std::vector<std::byte> packed(kRows * row_bytes(type, kCols));
  const auto ok = feedback.quantize(type, {w.data(), kRows, kCols}, packed, {.threads = threads});
  REQUIRE(ok);
  return unpacked(type, packed, kCols);
}

double error(const std::vector<float>& h, const std::vector<float>& a,
             const std::vector<float>& b) {
  const auto e = product_error(square(h), {a.data(), kRows, kCols}, {b.data(), kRows, kCols});
  REQUIRE(e);
  return *e;
}

}  // namespace

TEST_CASE("error feedback: products are much nearer than those of plain and weighted blocks") {
  const auto h = moments_of_inputs(1), other_text = moments_of_inputs(9);
  const ErrorFeedback feedback = prepared(h);
  std::vector<float> importance(kCols);
  for (std::size_t k = 0; k < kCols; ++k) importance[k] = h[k * kCols + k];
  const auto w = random_weights(kRows * kCols, 0.1f, 3);
  WeightFormats::for_each([&]<class F>() {
    INFO(F::name);
    const auto found = fed(feedback, F::type, w);
    for (const auto& weighing : {std::vector<float>{}, importance}) {
      const auto plain = round_trip(F::type, w, kCols, {.importance = weighing});
      CHECK(error(h, found, w) < 0.5 * error(h, plain, w));
      CHECK(error(other_text, found, w) < 0.6 * error(other_text, plain, w));
    }
  });
}

TEST_CASE("error feedback: unbiased rows have products as large as they were") {
  const auto h = moments_of_inputs(1, 900, 0.1f);
  const ErrorFeedback feedback = prepared(h);
  const auto w = random_weights(kRows * kCols, 0.1f, 3), none = std::vector<float>(w.size());
  // w H w'^T over w H w^T, from three squared errors.
  const auto share = [&](bool unbiased) {
    std::vector<std::byte> packed(kRows * row_bytes(TensorType::Q2_K, kCols));
    REQUIRE(feedback.quantize(TensorType::Q2_K, {w.data(), kRows, kCols}, packed,
                              {.unbiased = unbiased}));
    const auto y = unpacked(TensorType::Q2_K, packed, kCols);
    return (error(h, w, none) + error(h, y, none) - error(h, w, y)) / (2 * error(h, w, none));
  };
  CHECK(share(false) < 0.99);
  CHECK(share(true) == Approx(1).margin(0.005));
}

TEST_CASE("error feedback: inputs that say nothing leave the ordinary problem") {
  // H = 0 counts as H = 1: nothing to hand errors on to; rounds of improvement find no worse
  // blocks.
  const std::vector<float> zero(kCols * kCols);
  std::vector<float> one(kCols * kCols);
  for (std::size_t k = 0; k < kCols; ++k) one[k * kCols + k] = 1;
  const ErrorFeedback feedback = prepared(zero);
  const auto w = random_weights(kRows * kCols, 0.1f, 3);
  WeightFormats::for_each([&]<class F>() {
    INFO(F::name);
    const double found = error(one, fed(feedback, F::type, w), w);
    CHECK(found <= 1.0001 * error(one, round_trip(F::type, w, kCols), w));
    CHECK(found == Approx(error_of(F::type, w, kCols).error).epsilon(0.05));
  });
}

TEST_CASE("error feedback: the same bytes for any number of threads") {
  const ErrorFeedback feedback = prepared(moments_of_inputs(1));
  const auto w = random_weights(kRows * kCols, 0.1f, 3);
  for (const TensorType type : {TensorType::Q2_K, TensorType::Q6_K, TensorType::Q4_0}) {
    const auto one = fed(feedback, type, w, 1);
    CHECK(fed(feedback, type, w, 2) == one);
    CHECK(fed(feedback, type, w, 5) == one);
  }
}

TEST_CASE("error feedback: on another text never much worse than an importance matrix") {
  const auto w = random_weights(kRows * kCols, 0.1f, 3);
  for (const std::size_t tokens : {100u, 600u, 1000u, 2000u})
    for (const float related : {0.0f, 1.0f}) {
      INFO(tokens << " tokens, related " << related);
      const auto h = moments_of_inputs(1, tokens, related),
                 other_text = moments_of_inputs(9, 900, related);
      const auto answers = [&](std::size_t inputs) {
        return error(other_text, fed(prepared(h, inputs), TensorType::Q3_K, w), w);
      };
      // Below a column's worth of inputs, H is its diagonal.
      const double importance = answers(0);
      CHECK(answers(tokens) < 1.1 * importance);
      if (tokens < kCols) {
        CHECK(answers(tokens) == importance);
        // Taken at their word, a few inputs would do harm.
        if (related == 0) CHECK(answers(100 * kCols) > 1.2 * importance);
      } else if (related > 0) {
        CHECK(answers(tokens) < 0.8 * importance);
      }
    }
}

TEST_CASE("error feedback: extreme weights and inputs") {
  auto h = moments_of_inputs(1, 3);                                                 // rank 3
  for (std::size_t k = 0; k < kCols; ++k) h[7 * kCols + k] = h[k * kCols + 7] = 0;  // a dead column
  const ErrorFeedback feedback = prepared(h);
  std::vector<float> w(kRows * kCols);
  for (std::size_t i = 0; i < kCols; ++i) {
    w[1 * kCols + i] = 1.0f;
    w[2 * kCols + i] = i == 100 ? 1e30f : 1e-3f;
    w[3 * kCols + i] = i % 2 ? 1e-30f : -1e-30f;
    w[4 * kCols + i] = i % 2 ? 3e38f : -3e38f;
  }
  WeightFormats::for_each([&]<class F>() {
    INFO(F::name);
    for (const float v : fed(feedback, F::type, w)) REQUIRE(std::isfinite(v));
  });
}

TEST_CASE("error feedback: errors") {
  std::vector<float> h = moments_of_inputs(1, 3);
  CHECK(ErrorFeedback::prepare({h.data(), 2, 3}, 3).error().code == ErrorCode::kInvalidArgument);
  const ErrorFeedback feedback = prepared(h);
  std::vector<float> w(kRows * kCols);
  CHECK(product_error(square(h), {w.data(), 2, 256}, {w.data(), 2, 256}).error().code ==
        ErrorCode::kInvalidArgument);
  CHECK(product_error(square(h), {w.data(), 2, kCols}, {w.data(), 3, kCols}).error().code ==
        ErrorCode::kInvalidArgument);
  std::vector<std::byte> out(kRows * row_bytes(TensorType::Q4_K, kCols));
  CHECK(feedback.quantize(TensorType::Q4_K, {w.data(), kRows, 256}, out).error().code ==
        ErrorCode::kInvalidArgument);
  CHECK(feedback.quantize(TensorType::Q4_K, {w.data(), 3, kCols}, out).error().code ==
        ErrorCode::kInvalidArgument);
  w[kCols + 5] = std::numeric_limits<float>::quiet_NaN();
  const auto bad = feedback.quantize(TensorType::Q4_K, {w.data(), kRows, kCols}, out);
  CHECK(bad.error().code == ErrorCode::kBadData);
  CHECK(bad.error().message.find("row 1, column 5") != std::string::npos);
  h[3] = std::numeric_limits<float>::infinity();
  CHECK(ErrorFeedback::prepare(square(h), 3).error().code == ErrorCode::kBadData);
}
