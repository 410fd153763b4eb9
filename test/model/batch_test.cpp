// Several sequences at once: the same bits as one at a time.

#include <omp.h>

#include <catch2/catch.hpp>

#include "test/model/fixture.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

std::vector<Token> tokens_of(int n, int seed) {
  std::vector<Token> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(3 + (i * i + 7 * seed + i * seed) % 120);
  return tokens;
}

/// A sequence and what it is to be continued by, call after call: (tokens, outputs).
struct Script {
  int capacity;
  KvType type;
  std::vector<std::pair<int, std::size_t>> steps;
};

}  // namespace

TEST_CASE("a batch gives each sequence the bits that it gets alone") {
  // Prompts, single tokens and nothing asked for side by side, at different positions, across
  // sliding windows, with caches of both types and on both sides of a long-context limit.
  const std::vector<Script> scripts{
      {300, KvType::kF16, {{1, 1}, {1, 1}, {1, 1}}},
      {300, KvType::kF16, {{70, 1}, {1, 1}, {1, 1}}},
      {40, KvType::kF32, {{9, 9}, {11, 3}, {1, 1}}},
      {300, KvType::kF16, {{33, 0}, {1, 0}, {30, 30}}},
      {24, KvType::kF32, {{5, 0}, {1, 1}, {17, 2}}},
  };
  const int before = omp_get_max_threads();
  for (const std::string& name : expectation_names()) {
    INFO(name);
    Transformer model = load_fixture(read_expectation(name).gguf);
    const auto vocab_size = static_cast<std::size_t>(model.config().vocab_size);
    std::vector<KvCache> alone, together;
    for (const Script& script : scripts) {
      alone.emplace_back(model.config(), script.capacity, script.type);
      together.emplace_back(model.config(), script.capacity, script.type);
    }
    for (std::size_t step = 0; step < 3; ++step) {
      std::vector<std::vector<Token>> tokens;
      std::vector<float> expected;
      std::vector<Sequence> batch;
      omp_set_num_threads(2);
      for (std::size_t i = 0; i < scripts.size(); ++i) {
        const auto& [n, outputs] = scripts[i].steps[step];
        tokens.push_back(tokens_of(n, static_cast<int>(10 * step + i)));
        const auto logits = logits_of(model, tokens[i], alone[i], outputs);
        expected.insert(expected.end(), logits.begin(), logits.end());
      }
      for (std::size_t i = 0; i < scripts.size(); ++i)
        batch.push_back({tokens[i], &together[i], scripts[i].steps[step].second});
      {
        omp_set_num_threads(3);
        std::vector<float> logits(expected.size());
        const auto done =
            model.forward_batch(batch, {logits.data(), expected.size() / vocab_size, vocab_size});
        INFO((done ? "" : done.error().message));
        REQUIRE(done);
        CHECK(logits == expected);
      }
      for (std::size_t i = 0; i < scripts.size(); ++i) CHECK(together[i].size() == alone[i].size());
    }
  }
  omp_set_num_threads(before);
}

TEST_CASE("a batch may be larger than a chunk") {
  Transformer model = load_fixture("gemma3.gguf");
  std::vector<KvCache> caches;
  std::vector<Sequence> batch;
  std::vector<std::vector<Token>> tokens;
  std::vector<float> expected;
  for (int i = 0; i < 7; ++i) tokens.push_back(tokens_of(90 + 100 * (i % 3), i));
  for (std::size_t i = 0; i < tokens.size(); ++i) caches.emplace_back(model.config(), 300);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    batch.push_back({tokens[i], &caches[i], 80});
    KvCache cache(model.config(), 300);
    const auto logits = logits_of(model, tokens[i], cache, 80);
    expected.insert(expected.end(), logits.begin(), logits.end());
  }
  std::vector<float> logits(expected.size());
  REQUIRE(model.forward_batch(batch, {logits.data(), 7 * 80, logits.size() / (7 * 80)}));
  CHECK(logits == expected);

  // Hidden states are those whose projection are the logits.
  for (KvCache& cache : caches) cache.clear();
  const auto n_embd = static_cast<std::size_t>(model.config().n_embd);
  std::vector<float> hidden(7 * 80 * n_embd), projected(expected.size());
  REQUIRE(model.hidden_states_batch(batch, {hidden.data(), 7 * 80, n_embd}));
  REQUIRE(model.project({hidden.data(), 7 * 80, n_embd},
                        {projected.data(), 7 * 80, projected.size() / (7 * 80)}));
  CHECK(projected == expected);
}

TEST_CASE("a shared prefix is computed once and copied") {
  for (const std::string name : {"gemma3.gguf", "llama3.gguf", "phi3.gguf"}) {
    Transformer model = load_fixture(name);
    for (const KvType type : {KvType::kF16, KvType::kF32}) {
      const auto prefix = tokens_of(50, 1), tail = tokens_of(6, 2);
      KvCache whole(model.config(), 60, type), shared(model.config(), 90, type);
      logits_of(model, prefix, whole, 0);
      const auto expected = logits_of(model, tail, whole, 6);

      logits_of(model, prefix, shared, 0);
      logits_of(model, tokens_of(20, 3), shared, 0);  // what follows is not copied
      KvCache cache(model.config(), 64, type);
      logits_of(model, tokens_of(60, 4), cache, 0);  // and what was there is replaced
      REQUIRE(cache.copy_prefix(shared, 50));
      CHECK(cache.size() == 50);
      CHECK(logits_of(model, tail, cache, 6) == expected);
      CHECK(shared.size() == 70);
      REQUIRE(shared.copy_prefix(shared, 50));
      CHECK(logits_of(model, tail, shared, 6) == expected);
      REQUIRE(cache.copy_prefix(shared, 0));
      CHECK(cache.size() == 0);
    }
  }
}

TEST_CASE("a prefix that cannot be copied is an error and leaves the cache alone") {
  Transformer model = load_fixture("llama3.gguf");
  KvCache from(model.config(), 20), cache(model.config(), 10),
      floats(model.config(), 20, KvType::kF32);
  KvCache foreign(load_fixture("gemma2.gguf").config(), 20);
  logits_of(model, tokens_of(15, 1), from, 0);
  logits_of(model, tokens_of(4, 1), cache, 0);
  CHECK(cache.copy_prefix(from, 16).error().code == ErrorCode::kOutOfRange);
  CHECK(cache.copy_prefix(from, -1).error().code == ErrorCode::kOutOfRange);
  CHECK(cache.copy_prefix(from, 11).error().code == ErrorCode::kOutOfRange);
  CHECK(floats.copy_prefix(from, 5).error().code == ErrorCode::kInvalidArgument);
  CHECK(foreign.copy_prefix(from, 5).error().code == ErrorCode::kInvalidArgument);
  CHECK(cache.size() == 4);
}

TEST_CASE("batches that cannot be answered are errors and leave all caches alone") {
  Transformer model = load_fixture("llama2.gguf");
  const std::vector<Token> good{1, 5, 6}, bad{1, 128};
  KvCache a(model.config(), 8), b(model.config(), 2);
  std::vector<float> logits(128 * 4);
  const auto fails = [&](std::initializer_list<Sequence> batch, std::size_t rows) {
    const auto result = model.forward_batch(batch, {logits.data(), rows, 128});
    REQUIRE_FALSE(result);
    CHECK(a.size() == 0);
    CHECK(b.size() == 0);
    return result.error();
  };
  CHECK(fails({}, 0).code == ErrorCode::kInvalidArgument);
  CHECK(fails({{good, &a}, {good, &a}}, 2).code == ErrorCode::kInvalidArgument);
  CHECK(fails({{good, &a}, {good, nullptr}}, 2).code == ErrorCode::kInvalidArgument);
  CHECK(fails({{good, &a}, {std::span(good).first(2), &b}}, 1).code == ErrorCode::kInvalidArgument);
  CHECK(fails({{good, &a, 4}}, 4).code == ErrorCode::kInvalidArgument);
  const Error overflow = fails({{good, &a}, {good, &b}}, 2);
  CHECK(overflow.code == ErrorCode::kOutOfRange);
  CHECK(overflow.message.find("sequence 1") != std::string::npos);
  CHECK(fails({{good, &a}, {bad, &b}}, 2).code == ErrorCode::kOutOfRange);
}
