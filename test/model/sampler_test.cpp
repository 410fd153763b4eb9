#include "kquant/model/sampler.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

using namespace kquant;

namespace {

constexpr int kDraws = 20000;

std::vector<double> shares(const SamplerOptions& options, const std::vector<float>& logits) {
  Sampler sampler(options);
  std::vector<double> share(logits.size());
  for (int i = 0; i < kDraws; ++i) share[std::size_t(sampler.sample(logits))] += 1.0 / kDraws;
  return share;
}

std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)) + 3.0f);
  return logits;
}

void check_shares(const std::vector<double>& found, const std::vector<double>& expected) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    INFO(i);
    // Five standard deviations of a share of kDraws; what is impossible never happens.
    const double error = 5 * std::sqrt(expected[i] * (1 - expected[i]) / kDraws);
    CHECK(std::abs(found[i] - expected[i]) <= error);
  }
}

}  // namespace

TEST_CASE("tokens are drawn with the probabilities of their logits") {
  const std::vector<double> p{0.1, 0.4, 0.05, 0.25, 0.2};
  const auto logits = logits_of(p);
  check_shares(shares({.temperature = 1, .top_k = 0, .top_p = 1, .seed = 1}, logits), p);
  // Temperature 1/2 squares probabilities.
  const double total = 0.01 + 0.16 + 0.0025 + 0.0625 + 0.04;
  check_shares(shares({.temperature = 0.5f, .top_k = 0, .top_p = 1, .seed = 2}, logits),
               {0.01 / total, 0.16 / total, 0.0025 / total, 0.0625 / total, 0.04 / total});
  check_shares(shares({.temperature = 1, .top_k = 2, .top_p = 1, .seed = 3}, logits),
               {0, 0.4 / 0.65, 0, 0.25 / 0.65, 0});
  // The fewest tokens with a probability of 0.6 in all are two, of 0.7 three.
  check_shares(shares({.temperature = 1, .top_k = 0, .top_p = 0.6f, .seed = 4}, logits),
               {0, 0.4 / 0.65, 0, 0.25 / 0.65, 0});
  check_shares(shares({.temperature = 1, .top_k = 0, .top_p = 0.7f, .seed = 5}, logits),
               {0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85});
}

TEST_CASE("greedy and random sampling find the most likely of any number of tokens") {
  std::mt19937 random(6);
  std::normal_distribution<float> normal;
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (std::size_t n = 1; n < 70; ++n) {
    std::vector<float> logits(n);
    for (float& logit : logits) logit = std::round(4 * normal(random));  // so that some are equal
    logits[n / 3] = n % 3 == 0 ? kNan : logits[n / 3];
    logits[n / 2] = n % 5 == 0 ? -std::numeric_limits<float>::infinity() : logits[n / 2];
    Token best = 0;
    for (std::size_t i = 1; i < n; ++i)
      if (logits[i] > logits[std::size_t(best)] || std::isnan(logits[std::size_t(best)]))
        best = std::isnan(logits[i]) ? best : Token(i);
    INFO(n);
    if (std::isnan(logits[std::size_t(best)])) best = 0;
    CHECK(Sampler({.temperature = 0}).sample(logits) == best);
    CHECK(Sampler({.temperature = 1, .top_k = 1, .top_p = 1}).sample(logits) == best);
  }
}

TEST_CASE("greedy sampling takes the most likely token, the first of equals") {
  Sampler greedy({.temperature = 0});
  CHECK(greedy.sample(std::vector<float>{1, 5, 3}) == 1);
  CHECK(greedy.sample(std::vector<float>{2, 2, 2}) == 0);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  CHECK(greedy.sample(std::vector<float>{kNan, 1, kNan}) == 1);
  Sampler narrow({.temperature = 1, .top_k = 1});
  CHECK(narrow.sample(std::vector<float>{2, 3, 3, 1}) == 1);
}

TEST_CASE("a seed fixes the tokens, on every platform") {
  const auto logits = logits_of({0.1, 0.4, 0.05, 0.25, 0.2});
  Sampler a({.temperature = 0.9f, .seed = 42}), b({.temperature = 0.9f, .seed = 42});
  std::vector<Token> tokens;
  for (int i = 0; i < 16; ++i) {
    tokens.push_back(a.sample(logits));
    CHECK(b.sample(logits) == tokens.back());
  }
  CHECK(tokens == std::vector<Token>{4, 3, 4, 1, 4, 1, 3, 1, 1, 1, 1, 3, 3, 3, 4, 0});
}

TEST_CASE("logits that cannot be ranked do not crash the sampler") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {-kInf, kNan, kInf}) {
    Sampler sampler({.temperature = 1});
    CHECK(sampler.sample(std::vector<float>{bad, bad}) == 0);
    for (int i = 0; i < 50; ++i) {
      const Token token = sampler.sample(std::vector<float>{0, bad, 0});
      CHECK((bad == kInf ? token == 1 : token != 1));
    }
  }
}
