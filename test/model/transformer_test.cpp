#include "kquant/model/transformer.hpp"

#include <omp.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "test/model/fixture.hpp"
#include "worst.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

/// Largest |a - b| / max(1, |b|).
double largest_error(const std::vector<float>& a, const std::vector<std::vector<float>>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double expected = b[i / b[0].size()][i % b[0].size()];
    largest = worse(largest, std::abs(a[i] - expected) / std::max(1.0, std::abs(expected)));
  }
  return largest;
}

/// Root mean square of a - b, in units of that of b.
double rms_error(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, square = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(double{a[i]} - b[i], 2);
    square += std::pow(double{b[i]}, 2);
  }
  return std::sqrt(difference / square);
}

std::vector<float> prefill(Transformer& model, const Expectation& expected, KvType type) {
  KvCache cache(model.config(), expected.n_ctx, type);
  return logits_of(model, expected.tokens, cache, expected.tokens.size());
}

}  // namespace

TEST_CASE("logits of every architecture are those of its reference implementation") {
  const auto names = expectation_names();
  REQUIRE(names.size() >= 14);
  for (const std::string& name : names) {
    const Expectation expected = read_expectation(name);
    Transformer model = load_fixture(expected.gguf);
    INFO(name);
    // Weights, cache and reference are binary32; the reference itself moves by up to 6e-5 when
    // computed in double precision, and has five decimals.
    const std::vector<float> logits = prefill(model, expected, KvType::kF32);
    CHECK(largest_error(logits, expected.logits) < 2e-4);
    // Keys and values rounded to 11 bits.
    const double rounding = rms_error(prefill(model, expected, KvType::kF16), logits);
    CHECK(rounding < 0.01);
    CHECK(rounding > 0);
    const double rounding8 = rms_error(prefill(model, expected, KvType::kQ8_0), logits);
    CHECK(rounding8 < 0.05);
    CHECK(rounding8 > rounding);
  }
}

TEST_CASE("prefill, decoding and any split of a prompt give the same bits") {
  for (const std::string& name : expectation_names()) {
    const Expectation expected = read_expectation(name);
    Transformer model = load_fixture(expected.gguf);
    const std::size_t vocab_size = expected.logits[0].size();
    INFO(name);
    for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8_0}) {
      const std::vector<float> whole = prefill(model, expected, type);
      for (const std::size_t step : {1u, 5u, 27u}) {
        KvCache cache(model.config(), expected.n_ctx, type);
        std::vector<float> pieces;
        for (std::size_t at = 0; at < expected.tokens.size(); at += step) {
          const std::size_t n = std::min(step, expected.tokens.size() - at);
          const auto part = logits_of(model, std::span(expected.tokens).subspan(at, n), cache, n);
          pieces.insert(pieces.end(), part.begin(), part.end());
        }
        CHECK(pieces == whole);
      }
      // Only the last rows asked for, and after forgetting half of the tokens again.
      KvCache cache(model.config(), expected.n_ctx, type);
      logits_of(model, expected.tokens, cache, 0);
      cache.truncate(10);
      const auto last = logits_of(model, std::span(expected.tokens).subspan(10), cache, 2);
      CHECK(std::equal(last.begin(), last.end(), whole.end() - 2 * std::ptrdiff_t(vocab_size)));
    }
  }
}

TEST_CASE("prompts longer than a chunk and than a window are the same in any split") {
  for (const std::string name : {"gemma3.gguf", "llama3.gguf"}) {
    Transformer model = load_fixture(name);
    std::vector<Token> tokens;
    for (int i = 0; i < 1100; ++i) tokens.push_back(3 + (i * i) % 120);
    KvCache whole(model.config(), 1100), split(model.config(), 1100);
    const auto expected = logits_of(model, tokens, whole, 600);
    logits_of(model, std::span(tokens).first(777), split, 0);
    const auto tail = logits_of(model, std::span(tokens).subspan(777), split, 323);
    CHECK(std::equal(tail.rbegin(), tail.rend(), expected.rbegin()));
    CHECK(whole.size() == 1100);
  }
}

TEST_CASE("logits do not depend on the number of threads") {
  const int before = omp_get_max_threads();
  for (const std::string name : {"gemma2", "llama3", "phi3"}) {
    const Expectation expected = read_expectation(name);
    Transformer model = load_fixture(expected.gguf);
    omp_set_num_threads(1);
    const auto one = prefill(model, expected, KvType::kF16);
    for (const int threads : {2, 3}) {
      omp_set_num_threads(threads);
      CHECK(prefill(model, expected, KvType::kF16) == one);
    }
  }
  omp_set_num_threads(before);
}

TEST_CASE("models in threads of a team of the caller's give the same logits") {
  const Expectation expected = read_expectation(expectation_names().front());
  const int n_callers = 8;  // more than the machine may have cores
  std::vector<Transformer> models;
  std::vector<KvCache> caches;
  for (int i = 0; i < n_callers; ++i) {
    models.push_back(load_fixture(expected.gguf));
    caches.emplace_back(models.back().config(), expected.n_ctx, KvType::kF16);
  }
  const std::size_t rows = expected.tokens.size();
  const auto vocab_size = static_cast<std::size_t>(models[0].config().vocab_size);
  std::vector<std::vector<float>> logits(n_callers, std::vector<float>(rows * vocab_size));
#pragma omp parallel for num_threads(n_callers) schedule(static, 1)
  for (std::size_t i = 0; i < models.size(); ++i)
    static_cast<void>(models[i].forward(expected.tokens, caches[i],
                                        Span2d<float>(logits[i].data(), rows, vocab_size)));
  const std::vector<float> alone = prefill(models[0], expected, KvType::kF16);
  for (const auto& of_caller : logits) CHECK(of_caller == alone);
}

TEST_CASE("hidden states and their projection are the logits") {
  const Expectation expected = read_expectation("gemma2");
  Transformer model = load_fixture(expected.gguf);
  const std::size_t n = expected.tokens.size();
  const auto n_embd = static_cast<std::size_t>(model.config().n_embd);
  const auto vocab_size = static_cast<std::size_t>(model.config().vocab_size);
  KvCache cache(model.config(), 64);
  std::vector<float> hidden(n * n_embd), logits(n * vocab_size);
  REQUIRE(model.hidden_states(expected.tokens, cache, {hidden.data(), n, n_embd}));
  REQUIRE(model.project({hidden.data(), n, n_embd}, {logits.data(), n, vocab_size}));
  CHECK(logits == prefill(model, expected, KvType::kF16));

  CHECK(
      model.project({hidden.data(), n, n_embd - 1}, {logits.data(), n, vocab_size}).error().code ==
      ErrorCode::kInvalidArgument);
  CHECK(
      model.project({hidden.data(), n - 1, n_embd}, {logits.data(), n, vocab_size}).error().code ==
      ErrorCode::kInvalidArgument);
}

TEST_CASE("calls that cannot be answered are errors and leave the cache alone") {
  Transformer model = load_fixture("llama2.gguf");
  const std::vector<Token> tokens{1, 5, 6, 7};
  KvCache cache(model.config(), 6);
  logits_of(model, tokens, cache, 0);
  std::vector<float> logits(128 * 5);

  const auto overflow = model.forward(tokens, cache, {logits.data(), 1, 128});
  REQUIRE_FALSE(overflow);
  CHECK(overflow.error().code == ErrorCode::kOutOfRange);
  CHECK(overflow.error().message.find("capacity of 6") != std::string::npos);

  const auto fails = [&](std::span<const Token> input, std::size_t rows, std::size_t cols) {
    const auto result = model.forward(input, cache, {logits.data(), rows, cols});
    REQUIRE_FALSE(result);
    return result.error().code;
  };
  const std::vector<Token> too_large{128}, negative{-1};
  CHECK(fails(too_large, 1, 128) == ErrorCode::kOutOfRange);
  CHECK(fails(negative, 1, 128) == ErrorCode::kOutOfRange);
  CHECK(fails({}, 0, 128) == ErrorCode::kInvalidArgument);
  CHECK(fails(std::span(tokens).first(1), 2, 128) == ErrorCode::kInvalidArgument);
  CHECK(fails(std::span(tokens).first(1), 1, 127) == ErrorCode::kInvalidArgument);
  CHECK(cache.size() == 4);

  KvCache foreign(load_fixture("qwen3.gguf").config(), 6);
  CHECK(model.forward(tokens, foreign, {}).error().code == ErrorCode::kInvalidArgument);
  KvCache none(model.config(), -3);
  CHECK(none.capacity() == 0);
  CHECK(model.forward(tokens, none, {}).error().code == ErrorCode::kOutOfRange);
}

TEST_CASE("a cache takes memory for what it was asked to hold") {
  Transformer model = load_fixture("llama3.gguf");  // 2 layers, 2 KV heads of 16 + 16
  // Keys for 112 tokens, values for 100.
  CHECK(KvCache(model.config(), 100).bytes() == (112 + 100) * 2 * 2 * 16 * 2);
  CHECK(KvCache(model.config(), 100, KvType::kF32).bytes() == (112 + 100) * 2 * 2 * 16 * 4);
  CHECK(KvCache(model.config(), 100, KvType::kQ8_0).bytes() == (112 + 100) * 2 * 2 * 34);
  KvCache cache(model.config(), 8);
  cache.truncate(5);
  CHECK(cache.size() == 0);
}

TEST_CASE("an observer sees the input of every matrix") {
  Transformer model = load_fixture("llama3.gguf");
  std::map<std::string, std::size_t> cols, rows;
  const float* q_input = nullptr;
  model.observe([&](std::string_view name, Span2d<const float> x) {
    cols[std::string(name)] = x.cols;
    rows[std::string(name)] += x.rows;
    if (name == "blk.0.attn_q.weight") q_input = x.data;
    if (name == "blk.0.attn_v.weight") CHECK(x.data == q_input);
  });
  KvCache cache(model.config(), 600);
  std::vector<Token> tokens(520, 7);
  logits_of(model, tokens, cache, 1);
  CHECK(cols.size() == 2 * 7 + 1);
  CHECK(cols["blk.1.ffn_down.weight"] == 48);
  CHECK(cols["blk.1.attn_k.weight"] == 64);
  CHECK(rows["blk.1.attn_output.weight"] == 520);
  CHECK(rows["token_embd.weight"] == 1);  // the tied output matrix, last token only
}
