// Attention against double precision, and all ISAs, tiles and splits of keys against each other,
// bit for bit.

#include "kernels/attention_ops.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "every_isa.hpp"
#include "worst.hpp"

using namespace kquant;
using namespace kquant::kernels;

namespace {

struct Problem {
  KvKind kind;
  std::size_t dim_k, dim_v, n_keys;
  std::vector<std::size_t> first, end;  // of each row
  float soft_cap;
};

struct Cache {
  std::vector<std::byte> keys, values;
};

Cache store(const Problem& p, const std::vector<float>& k, const std::vector<float>& v) {
  const auto kind = static_cast<std::size_t>(p.kind);
  const std::size_t group = key_group_bytes(p.kind, p.dim_k), value = value_bytes(p.kind, p.dim_v);
  // What is not a stored key must not count: NaN in every format.
  Cache cache{std::vector((p.n_keys + kKeyGroup - 1) / kKeyGroup * group, std::byte{0xff}),
              std::vector(p.n_keys * value, std::byte{0xff})};
  for (std::size_t i = 0; i < p.n_keys; ++i) {
    table().attention.store_key[kind](k.data() + i * p.dim_k, p.dim_k, i % kKeyGroup,
                                      cache.keys.data() + i / kKeyGroup * group);
    table().attention.store_value[kind](v.data() + i * p.dim_v, p.dim_v,
                                        cache.values.data() + i * value);
  }
  return cache;
}

/// Rows in tiles of `tile`; spans of keys one after the other, or each alone and then merged.
std::vector<float> attend(const Problem& p, const Cache& cache, const std::vector<float>& q,
                          std::size_t tile, bool spread) {
  const AttentionOps& ops = table().attention;
  const std::size_t n = p.first.size(), padded = padded_to(p.dim_v, kKeyGroup);
  std::vector<float> scratch(attention_scratch(p.dim_k, p.dim_v)), out(n * p.dim_v);
  struct Memory {
    std::vector<float> values, most, sum;
    Memory(std::size_t rows, std::size_t width)
        : values(rows * width), most(rows, -std::numeric_limits<float>::infinity()), sum(rows) {}
    AttentionState state() { return {values.data(), most.data(), sum.data()}; }
  };
  for (std::size_t begin = 0; begin < n; begin += tile) {
    AttentionTile rows{.keys = cache.keys.data(),
                       .values = cache.values.data(),
                       .dim_k = p.dim_k,
                       .dim_v = p.dim_v,
                       .rows = std::min(tile, n - begin),
                       .q = {},
                       .first = {},
                       .end = {},
                       .soft_cap = p.soft_cap,
                       .scratch = scratch.data()};
    for (std::size_t r = 0; r < rows.rows; ++r) {
      rows.q[r] = q.data() + (begin + r) * p.dim_k;
      rows.first[r] = p.first[begin + r];
      rows.end[r] = p.end[begin + r];
    }
    Memory all(rows.rows, padded);
    const std::size_t spans = (p.n_keys + kKeySpan - 1) / kKeySpan;
    const auto run = ops.attend[static_cast<std::size_t>(p.kind)];
    if (!spread) run(rows, 0, spans, all.state());
    for (std::size_t span = 0; spread && span < spans; ++span) {
      Memory one(rows.rows, padded);
      run(rows, span, span + 1, one.state());
      ops.merge(one.state(), rows.rows, p.dim_v, all.state());
    }
    for (std::size_t r = 0; r < rows.rows; ++r)
      ops.finish(all.state(), r, p.dim_v, out.data() + (begin + r) * p.dim_v);
  }
  return out;
}

std::vector<double> exact(const Problem& p, const std::vector<float>& q,
                          const std::vector<float>& k, const std::vector<float>& v) {
  std::vector<double> out;
  for (std::size_t r = 0; r < p.first.size(); ++r) {
    std::vector<double> sum(p.dim_v);
    double total = 0;
    for (std::size_t j = p.first[r]; j < p.end[r]; ++j) {
      double s = 0;
      for (std::size_t d = 0; d < p.dim_k; ++d)
        s += double{q[r * p.dim_k + d]} * k[j * p.dim_k + d];
      if (p.soft_cap > 0) s = p.soft_cap * std::tanh(s / p.soft_cap);
      const double e = std::exp(s);
      total += e;
      for (std::size_t d = 0; d < p.dim_v; ++d) sum[d] += e * v[j * p.dim_v + d];
    }
    for (const double x : sum) out.push_back(x / total);
  }
  return out;
}

/// Rows at positions first … of a sequence, `group` heads each; window 0: all keys.
Problem causal(KvKind kind, std::size_t dim_k, std::size_t dim_v, std::size_t first,
               std::size_t tokens, std::size_t group, std::size_t window, float soft_cap = 0) {
  Problem p{kind, dim_k, dim_v, first + tokens, {}, {}, soft_cap};
  for (std::size_t r = 0; r < tokens * group; ++r) {
    p.end.push_back(first + r / group + 1);
    p.first.push_back(window == 0 || p.end[r] <= window ? 0 : p.end[r] - window);
  }
  return p;
}

}  // namespace

TEST_CASE("attention is what double precision says, the same in every tile, split and ISA") {
  for (const KvKind kind : {KvKind::kF32, KvKind::kF16, KvKind::kQ8_0})
    for (const Problem& p :
         {causal(kind, 64, 64, 0, 23, 4, 0), causal(kind, 128, 128, 517, 1, 8, 0),
          causal(kind, 40, 24, 120, 12, 1, 0, 5.0f), causal(kind, 16, 16, 250, 19, 2, 7),
          causal(kind, 256, 256, 390, 3, 4, 200), causal(kind, 80, 80, 127, 2, 3, 0)}) {
      INFO("kind " << static_cast<int>(kind) << ", dim " << p.dim_k << ", keys " << p.n_keys);
      const auto q = test::random_floats(p.first.size() * p.dim_k, 1,
                                         2.0f / std::sqrt(static_cast<float>(p.dim_k)));
      const auto k = test::random_floats(p.n_keys * p.dim_k, 2);
      const auto v = test::random_floats(p.n_keys * p.dim_v, 3);
      std::vector<float> first;
      test::for_each_isa([&](Isa) {
        const Cache cache = store(p, k, v);
        for (const std::size_t tile : {16u, 1u, 5u, 13u})
          for (const bool spread : {false, true}) {
            const auto out = attend(p, cache, q, tile, spread);
            if (first.empty()) first = out;
            CHECK(std::memcmp(out.data(), first.data(), 4 * out.size()) == 0);
          }
      });
      const auto expected = exact(p, q, k, v);
      const double tolerance = kind == KvKind::kF32 ? 1e-5 : kind == KvKind::kF16 ? 3e-3 : 4e-2;
      double worst = 0;
      for (std::size_t i = 0; i < expected.size(); ++i)
        worst = test::worse(worst, std::abs(first[i] - expected[i]));
      CHECK(worst < tolerance);
    }
}

TEST_CASE("a Q8_0 cache rounds to 127 steps of each block's largest number") {
  const std::size_t dim = 72;  // the last block is not full
  auto x = test::random_floats(dim, 4);
  for (std::size_t d = 32; d < 64; ++d) x[d] = 0;
  std::vector<std::byte> first;
  test::for_each_isa([&](Isa) {
    std::vector<std::byte> value(value_bytes(KvKind::kQ8_0, dim));
    table().attention.store_value[2](x.data(), dim, value.data());
    if (first.empty()) first = value;
    CHECK(value == first);
  });
  for (std::size_t block = 0; block < 3; ++block) {
    Half half;
    std::memcpy(&half, first.data() + 34 * block, 2);
    const float scale = to_float(half);
    float most = 0;
    for (std::size_t d = 32 * block; d < std::min(dim, 32 * block + 32); ++d) {
      const auto code = static_cast<std::int8_t>(first[34 * block + 2 + d % 32]);
      CHECK(std::abs(x[d] - scale * static_cast<float>(code)) <= 0.501f * scale);
      most = std::max(most, std::abs(x[d]));
    }
    CHECK(scale == Approx(most / 127).epsilon(1e-3));
  }
}

TEST_CASE("numbers that are not finite stay in the rows that see them") {
  const float inf = std::numeric_limits<float>::infinity();
  test::for_each_isa([&](Isa) {
    const Problem p = causal(KvKind::kF16, 16, 16, 0, 20, 1, 0);
    const auto q = test::random_floats(20 * 16, 1);
    const auto k = test::random_floats(20 * 16, 2);
    auto v = test::random_floats(20 * 16, 3);
    v[12 * 16 + 5] = inf;
    v[13 * 16 + 5] = -inf;
    const auto out = attend(p, store(p, k, v), q, 16, false);
    for (std::size_t r = 0; r < 20; ++r) CHECK(std::isfinite(out[r * 16 + 5]) == (r < 12));
    CHECK(std::isnan(out[13 * 16 + 5]));
    CHECK(std::isfinite(out[13 * 16 + 4]));
  });
}
