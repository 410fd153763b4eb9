// Decoding late in a long text: one token's attention over a cache of N tokens, in the shape of
// Llama 3.1 8B (32 heads, 8 of keys and values, 128 dimensions), as many threads as
// OMP_NUM_THREADS says. attention/TYPE/N/Q counts bytes of keys and values a second; so many layers
// take turns that no cache of the processor holds them. Q heads share a head of keys: 4 as in that
// model, and 1, which multiplies a quarter. read/TYPE is the same memory merely read, as it comes
// and with each line prefetched: the limit.

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "kquant/dispatch.hpp"
#include "limits.hpp"
#include "model/attention.hpp"

namespace kquant::bench {
namespace {

constexpr int kKvHeads = 8, kDim = 128;
constexpr std::size_t kRotatedBytes = std::size_t{256} << 20;

/// A full cache with one layer more than it takes to exceed kRotatedBytes.
struct Filled {
  int n_layers;
  KvCache cache;

  Filled(KvType type, int tokens)
      : n_layers(layers(type, tokens)), cache(config(n_layers), tokens, type) {
    const CacheAccess access(cache);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> rows(64 * kDim);
    for (float& x : rows) x = normal(random);
    for (std::size_t layer = 0; layer < static_cast<std::size_t>(n_layers); ++layer)
      for (std::size_t head = 0; head < kKvHeads; ++head)
        for (std::size_t token = 0; token < static_cast<std::size_t>(tokens); ++token) {
          const std::size_t row = (token + 7 * head) % 64 * kDim;
          access.store(layer, head, token, {rows.data() + row, kDim}, {rows.data() + row, kDim});
        }
    CacheAccess::advance(cache, static_cast<std::size_t>(tokens));
  }

  static Config config(int n_layers) {
    Config config;
    config.n_layers = n_layers;
    config.n_heads = kKvHeads;
    config.n_kv_heads = kKvHeads;
    config.head_dim_k = config.head_dim_v = kDim;
    return config;
  }
  static int layers(KvType type, int tokens) {
    return static_cast<int>(kRotatedBytes / KvCache(config(1), tokens, type).bytes()) + 1;
  }
  std::size_t layer_bytes() const { return CacheAccess(cache).layer_bytes(); }
};

/// The one made last is kept: repetitions of a benchmark follow each other.
const Filled& filled(KvType type, int tokens) {
  static std::unique_ptr<Filled> last;
  static std::pair<KvType, int> what;
  if (last == nullptr || what != std::pair(type, tokens)) {
    last.reset();
    last = std::make_unique<Filled>(type, tokens);
    what = {type, tokens};
  }
  return *last;
}

void attention_bench(benchmark::State& state, KvType type, int tokens, std::size_t group) {
  const Filled& f = filled(type, tokens);
  const std::size_t heads = kKvHeads * group;
  std::vector<float> q(heads * kDim), out(q.size());
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = 0.1f * static_cast<float>(i % 7) - 0.3f;
  const Attention::Queries queries{&f.cache,
                                   static_cast<std::size_t>(tokens - 1),
                                   {q.data(), 1, q.size()},
                                   {out.data(), 1, out.size()}};
  Attention attention;
  std::size_t turn = 0;
  for (auto _ : state) {
    attention.run({.layer = turn++ % static_cast<std::size_t>(f.n_layers), .n_heads = heads},
                  {&queries, 1});
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(f.layer_bytes()));
}

void read_bench(benchmark::State& state, KvType type, int tokens, decltype(Limits::read) read) {
  const Filled& f = filled(type, tokens);
  const auto n = static_cast<std::size_t>(omp_get_max_threads());
  const std::size_t part = f.layer_bytes() / n / 256 * 256;
  std::size_t turn = 0;
  for (auto _ : state) {
    const std::byte* layer =
        CacheAccess(f.cache).keys(turn++ % static_cast<std::size_t>(f.n_layers), 0);
#pragma omp parallel for schedule(static)
    for (std::size_t i = 0; i < n; ++i) benchmark::DoNotOptimize(read(layer + i * part, part));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(n * part));
}

void add(const std::string& name, const std::function<void(benchmark::State&)>& run) {
  auto* const bench = benchmark::RegisterBenchmark(name.c_str(), run);
  if (omp_get_max_threads() > 1) bench->UseRealTime();
}

}  // namespace
}  // namespace kquant::bench

int main(int argc, char** argv) {
  using namespace kquant;
  using namespace kquant::bench;
  const Limits& limits = find_isa("avx512vnni") ? kAvx512VnniLimits : kAvx2Limits;
  for (const auto& [name, type] :
       {std::pair("f16", KvType::kF16), std::pair("q8_0", KvType::kQ8_0)})
    for (const int tokens : {4096, 32768}) {
      add(fmt::format("read/{}/{}/plain", name, tokens),
          [=](auto& state) { read_bench(state, type, tokens, limits.read); });
      add(fmt::format("read/{}/{}/prefetched", name, tokens),
          [=](auto& state) { read_bench(state, type, tokens, limits.read_prefetched); });
      for (const std::size_t group : {1, 4})
        add(fmt::format("attention/{}/{}/{}", name, tokens, group),
            [=](auto& state) { attention_bench(state, type, tokens, group); });
    }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("threads", std::to_string(omp_get_max_threads()));
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
