// Which thread takes which rows and keys makes no difference.

#include "model/attention.hpp"

#include <omp.h>

#include <catch2/catch.hpp>
#include <random>

#include "model/cache_access.hpp"

using namespace kquant;

namespace {

std::vector<float> random_floats(std::size_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 0.5f);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

/// Attention of the last `tokens` tokens in a cache of n_keys: four heads of queries, one of keys.
std::vector<float> attend(KvType type, std::size_t n_keys, std::size_t tokens, std::size_t window) {
  const std::size_t dim = 128, heads = 4, layer = 1;
  Config config;
  config.n_layers = 2;
  config.n_heads = heads;
  config.n_kv_heads = 1;
  config.head_dim_k = config.head_dim_v = dim;
  KvCache cache(config, static_cast<int>(n_keys) + 3, type);
  const auto k = random_floats(n_keys * dim, 1), v = random_floats(n_keys * dim, 2);
  for (std::size_t i = 0; i < n_keys; ++i)
    CacheAccess(cache).store(layer, 0, i, std::span(k).subspan(i * dim, dim),
                             std::span(v).subspan(i * dim, dim));
  const auto q = random_floats(5 * heads * dim, 3);  // of up to five tokens
  std::vector<float> out(tokens * heads * dim);
  const Attention::Queries queries{&cache,
                                   n_keys - tokens,
                                   {q.data() + (5 - tokens) * heads * dim, tokens, heads * dim},
                                   {out.data(), tokens, heads * dim}};
  Attention().run({.layer = layer, .n_heads = heads, .window = window}, {&queries, 1});
  return out;
}

}  // namespace

TEST_CASE("attention is the same for any number of threads and of tokens in a call") {
  const int before = omp_get_max_threads();
  for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8_0})
    for (const std::size_t n_keys : {150u, 700u, 2900u})  // rows are shared, then keys
      for (const std::size_t window : {0u, 1000u}) {
        omp_set_num_threads(1);
        const auto one = attend(type, n_keys, 1, window);
        const auto five = attend(type, n_keys, 5, window);
        CHECK(std::equal(one.begin(), one.end(), five.end() - std::ptrdiff_t(one.size())));
        for (const int threads : {2, 3, 7}) {
          omp_set_num_threads(threads);
          CHECK(attend(type, n_keys, 1, window) == one);
          CHECK(attend(type, n_keys, 5, window) == five);
        }
      }
  omp_set_num_threads(before);
}

TEST_CASE("attention in threads of a team of the caller's is the same") {
  for (const std::size_t n_keys : {20u, 700u, 2900u})
    for (const std::size_t tokens : {1u, 5u}) {  // too little for several threads, and enough
      const auto alone = attend(KvType::kF16, n_keys, tokens, 0);
      constexpr int kCallers = 64;  // more than most machines have cores
      std::vector<float> of_caller[kCallers];
#pragma omp parallel for num_threads(kCallers) schedule(static, 1)
      for (auto& result : of_caller) result = attend(KvType::kF16, n_keys, tokens, 0);
      for (const auto& result : of_caller) CHECK(result == alone);
    }
}
