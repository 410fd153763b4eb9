#pragma once
// softmax(q k^T) v of up to 16 query rows that share a KV head, span after span of 128 keys:
//
//     s = q k^T            lanes are keys: q is broadcast, sums run over dimensions in order
//     p = exp(s - max s)   of the keys that the row sees, 0 elsewhere
//     o = p v              lanes are dimensions: p is broadcast, sums run over keys in order
//
// and then (max, sum p, o) is merged into what earlier spans gave. Spans begin at multiples of 128
// keys, so that nothing depends on which rows are computed together, on how spans are handed to
// threads, or on the ISA. Multiplications and additions of the two products are fused
// (docs/numerics.md).
//
// Registers: kSums x 16 sums, 16 of AVX-512 (8 rows of q x 2 vectors of k, down to 1 x 4), 8 of
// AVX2, 16 of NEON. A vector of k or v is loaded and made float once for all of these rows; 16 rows
// meet a span of 128 keys of 128 dimensions, 64 KiB of F16, while it is in L2. It comes there in
// time: while the keys of a span are scored its values are asked for, and while these are weighed
// the next span's keys.

#include "kernels/attention_ops.hpp"
#include "kernels/float_ops.hpp"
#include "kernels/isa/lanes.hpp"
#include "kquant/format/plain.hpp"

namespace kquant::kernels {

/// Keys and values as they are: F16, F32.
template <class F, class Isa>
struct PlainKv {
  using Floats = typename Isa::Floats;
  using Element = typename F::Element;
  static constexpr KvKind kKind = sizeof(Element) == 2 ? KvKind::kF16 : KvKind::kF32;

  /// Dimensions 32 * block, + 1, … of 16 keys.
  struct Keys {
    const Element* at;
    KQ_INLINE Keys(const std::byte* group, std::size_t block)
        : at(reinterpret_cast<const Element*>(group) + block * kKvBlock * kKeyGroup) {}
    KQ_INLINE Floats load(std::size_t dim) const { return Isa::load(at + dim * kKeyGroup); }
  };
  /// Dimensions 16 * vector, … of a value.
  KQ_INLINE static Floats load_value(const std::byte* value, std::size_t vector) {
    return Isa::load(reinterpret_cast<const Element*>(value) + vector * kKeyGroup);
  }

  KQ_INLINE static void store(Floats x, Half* out) { Isa::store_half(x, out); }
  KQ_INLINE static void store(Floats x, float* out) { x.store(out); }

  static void store_key(const float* x, std::size_t dim, std::size_t lane,
                        std::byte* group) noexcept {
    auto* const out = reinterpret_cast<Element*>(group) + lane;
    for (std::size_t d = 0; d < dim; d += kLanes) {
      const std::size_t n = dim - d < kLanes ? dim - d : kLanes;
      Element row[kLanes];
      store(Floats::load(x + d, n, 0.0f), row);
      for (std::size_t i = 0; i < n; ++i) out[(d + i) * kKeyGroup] = row[i];
    }
  }
  static void store_value(const float* x, std::size_t dim, std::byte* value) noexcept {
    auto* const out = reinterpret_cast<Element*>(value);
    for (std::size_t d = 0; d < dim; d += kLanes)
      store(Floats::load(x + d, dim - d < kLanes ? dim - d : kLanes, 0.0f), out + d);
  }
};

/// One scale and 32 int8.
template <class Isa>
struct Q8Kv {
  using Floats = typename Isa::Floats;
  static constexpr KvKind kKind = KvKind::kQ8_0;
  static constexpr std::size_t kBytes = 2 + kKvBlock;

  struct Keys {
    const std::byte* at;
    Floats scales;
    KQ_INLINE Keys(const std::byte* group, std::size_t block)
        : at(group + block * kBytes * kKeyGroup),
          scales(Isa::load(reinterpret_cast<const Half*>(at))) {
      at += 2 * kKeyGroup;
    }
    KQ_INLINE Floats load(std::size_t dim) const {
      return Isa::load(reinterpret_cast<const std::int8_t*>(at) + dim * kKeyGroup) * scales;
    }
  };
  KQ_INLINE static Floats load_value(const std::byte* value, std::size_t vector) {
    const std::byte* const block = value + vector / 2 * kBytes;
    Half scale;
    __builtin_memcpy(&scale, block, sizeof scale);
    const auto* const codes = reinterpret_cast<const std::int8_t*>(block) + 2;
    return Isa::load(codes + vector % 2 * kKeyGroup) * Floats::all(Isa::to_float(scale));
  }

  struct Block {
    Half scale;
    std::uint8_t codes[kKvBlock];
  };
  static_assert(sizeof(Block) == kBytes);

  /// n <= 32 numbers; zeros after them. scale = max |x| / 127, rounded to binary16 before it is
  /// divided by.
  KQ_INLINE static Block quantize(const float* x, std::size_t n) {
    const Floats low = Floats::load(x, n < kLanes ? n : kLanes, 0.0f);
    const Floats high = n > kLanes ? Floats::load(x + kLanes, n - kLanes, 0.0f) : Floats::all(0.0f);
    Block block;
    block.scale = F16::element(larger(magnitude(low), magnitude(high)).most() / 127.0f);
    const float scale = Isa::to_float(block.scale);
    const Floats inverse = Floats::all(scale > 0.0f ? 1.0f / scale : 0.0f);
    const auto codes = [&](Floats v) __attribute__((always_inline)) {
      const Floats least = Floats::all(-127.0f), greatest = Floats::all(127.0f);
      const Floats code = larger(v * inverse, least);  // NaN becomes -127
      const Floats magic = Floats::all(kRoundMagic);
      return (where_greater(code, greatest, greatest, code) + magic) - magic;
    };
    Isa::store_codes(codes(low), block.codes);
    Isa::store_codes(codes(high), block.codes + kLanes);
    return block;
  }

  static void store_key(const float* x, std::size_t dim, std::size_t lane,
                        std::byte* group) noexcept {
    for (std::size_t d = 0; d < dim; d += kKvBlock, group += kBytes * kKeyGroup) {
      const Block block = quantize(x + d, dim - d < kKvBlock ? dim - d : kKvBlock);
      __builtin_memcpy(group + 2 * lane, &block.scale, sizeof block.scale);
      std::byte* const out = group + 2 * kKeyGroup + lane;
      for (std::size_t i = 0; i < kKvBlock; ++i) out[i * kKeyGroup] = std::byte{block.codes[i]};
    }
  }
  static void store_value(const float* x, std::size_t dim, std::byte* value) noexcept {
    for (std::size_t d = 0; d < dim; d += kKvBlock, value += kBytes) {
      const Block block = quantize(x + d, dim - d < kKvBlock ? dim - d : kKvBlock);
      __builtin_memcpy(value, &block, sizeof block);
    }
  }
};

/// Bytes to come, asked for in their order, `step` at a time: at most two lines.
struct Ahead {
  const std::byte* at;
  std::size_t step;
  KQ_INLINE void ask(std::size_t i) const {
    const std::byte* const p = at + i * step;
    __builtin_prefetch(p, 0, 3);
    __builtin_prefetch(p + step / 2, 0, 3);
  }
};

template <class Kv, class Isa>
struct Attend {
  using Floats = typename Isa::Floats;
  static constexpr std::size_t kUnits = Floats::kUnits;
  /// Sums of 16 lanes that fit the registers; rows of q at once.
  static constexpr int kSums = Floats::kScalar ? 1 : kUnits == 1 ? 16 : 4;
  static constexpr int kRows = Floats::kScalar ? 1 : kUnits == 1 ? 8 : 4;

  const AttentionTile& tile;
  float* const q;       ///< dim_k x kQueryTile: rows of q, interleaved
  float* const scores;  ///< kQueryTile x kKeySpan
  float* const values;  ///< kQueryTile x padded dim_v, and the rest of a state
  const std::size_t key_bytes, value_bytes, padded;  ///< of a group of keys; of a value; of dim_v

  /// fn.operator()<R>(row) for rows [0, tile.rows), R = kRows and then fewer at a time.
  template <int R = kRows, class Fn>
  KQ_INLINE void for_rows(const Fn& fn, std::size_t row = 0) const {
    for (; row + R <= tile.rows; row += R) fn.template operator()<R>(row);
    if constexpr (R > 1) for_rows<R / 2>(fn, row);
  }

  template <int R, int V>
  KQ_INLINE void score(std::size_t row, const std::byte* groups, Ahead ahead, float* out) const {
    Floats acc[R][V];
    unrolled<R * V>([&]<int i>()
                        __attribute__((always_inline)) { acc[i / V][i % V] = Floats::all(0.0f); });
    for (std::size_t d = 0; d < tile.dim_k; d += kKvBlock) {
      const std::size_t n = tile.dim_k - d < kKvBlock ? tile.dim_k - d : kKvBlock;
      const float* p = q + d * kQueryTile + row;
      const auto multiply = [&](const auto&... keys) __attribute__((always_inline)) {
        for (std::size_t i = 0; i < n; ++i, p += kQueryTile) {
          const Floats k[V] = {keys.load(i)...};
          ahead.ask(d + i);
          unrolled<R>([&]<int r>() __attribute__((always_inline)) {
            const Floats factor = Floats::all(p[r]);
            unrolled<V>([&]<int v>() __attribute__((always_inline)) {
              acc[r][v] = Isa::multiply_add(acc[r][v], factor, k[v]);
            });
          });
        }
      };
      using Keys = typename Kv::Keys;
      const std::size_t block = d / kKvBlock;
      if constexpr (V == 1)
        multiply(Keys(groups, block));
      else if constexpr (V == 2)
        multiply(Keys(groups, block), Keys(groups + key_bytes, block));
      else
        multiply(Keys(groups, block), Keys(groups + key_bytes, block),
                 Keys(groups + 2 * key_bytes, block), Keys(groups + 3 * key_bytes, block));
    }
    unrolled<R * V>([&]<int i>() __attribute__((always_inline)) {
      acc[i / V][i % V].store(out + (i / V) * kKeySpan + (i % V) * kLanes);
    });
  }

  /// Scores of keys first … end - 1, counted from the span's first key on, and of all others in
  /// their groups.
  KQ_INLINE void score(const std::byte* keys, const std::byte* their_values, std::size_t first,
                       std::size_t end) const {
    for_rows([&]<int R>(std::size_t row) __attribute__((always_inline)) {
      constexpr int kMost = kSums / R < 4 ? kSums / R : 4;
      float* const out = scores + row * kKeySpan;
      std::size_t group = first / kKeyGroup;
      const std::size_t end_group = (end + kKeyGroup - 1) / kKeyGroup;
      const auto run = [&]<int V>() __attribute__((always_inline)) {
        for (; group + V <= end_group; group += V) {
          const std::size_t bytes = row == 0 ? kKeyGroup * value_bytes : 0;
          score<R, V>(row, keys + group * key_bytes,
                      {their_values + group * bytes, V * bytes / tile.dim_k},
                      out + group * kKeyGroup);
        }
      };
      if constexpr (kMost >= 4) run.template operator()<4>();
      if constexpr (kMost >= 2) run.template operator()<2>();
      run.template operator()<1>();
    });
  }

  /// The largest score of keys first … end - 1; -inf for the others in their groups.
  KQ_INLINE float most_of(float* row, std::size_t first, std::size_t end) const {
    const std::size_t begin = first / kKeyGroup * kKeyGroup;
    const std::size_t stop = padded_to(end, kKeyGroup);
    const float kNothing = -__builtin_inff();
    if (tile.soft_cap > 0) kernels::soft_cap<Isa>(row + begin, stop - begin, tile.soft_cap);
    for (std::size_t i = begin; i < first; ++i) row[i] = kNothing;
    for (std::size_t i = end; i < stop; ++i) row[i] = kNothing;
    Floats most = Floats::all(kNothing);
    for (std::size_t i = begin; i < stop; i += kLanes) most = larger(Isa::load(row + i), most);
    return most.most();
  }

  /// scores -> exp(scores - most), in place, and their sum.
  KQ_INLINE float exponentiate(float* row, std::size_t first, std::size_t end, float most) const {
    const Floats all_most = Floats::all(most);
    Floats sum = Floats::all(0.0f);
    for (std::size_t i = first / kKeyGroup * kKeyGroup; i < end; i += kLanes) {
      const Floats e = uncapped_exponential<Isa>(Isa::load(row + i) - all_most);
      e.store(row + i);
      sum = sum + e;
    }
    return Isa::reduce_add(sum);
  }

  /// values += p v, over keys first … end - 1 of the span.
  template <int R>
  KQ_INLINE void weigh(const std::byte* span, const std::byte* next_keys, std::size_t row,
                       std::size_t first, std::size_t end) const {
    if (first >= end) return;
    const std::size_t vectors = padded / kLanes;
    const std::size_t next_bytes = row == 0 ? key_bytes * (kKeySpan / kKeyGroup) : 0;
    std::size_t vector = 0;
    const auto run = [&]<int V>() __attribute__((always_inline)) {
      for (; vector + V <= vectors; vector += V) {
        Floats acc[R][V];
        float* const out = values + row * padded + vector * kLanes;
        unrolled<R * V>([&]<int i>() __attribute__((always_inline)) {
          acc[i / V][i % V] =
              Isa::load(out + static_cast<std::size_t>(i / V) * padded + (i % V) * kLanes);
        });
        const float* p = scores + row * kKeySpan + first;
        const std::byte* value = span + first * value_bytes;
        const Ahead ahead{next_keys + vector * next_bytes / vectors,
                          V * next_bytes / vectors / kKeySpan};
        for (std::size_t key = first; key < end; ++key, ++p, value += value_bytes) {
          Floats v[V];
          ahead.ask(key);
          unrolled<V>([&]<int i>() __attribute__((always_inline)) {
            v[i] = Kv::load_value(value, vector + i);
          });
          unrolled<R>([&]<int r>() __attribute__((always_inline)) {
            const Floats factor = Floats::all(p[r * kKeySpan]);
            unrolled<V>([&]<int i>() __attribute__((always_inline)) {
              acc[r][i] = Isa::multiply_add(acc[r][i], factor, v[i]);
            });
          });
        }
        unrolled<R * V>([&]<int i>() __attribute__((always_inline)) {
          acc[i / V][i % V].store(out + static_cast<std::size_t>(i / V) * padded +
                                  (i % V) * kLanes);
        });
      }
    };
    if constexpr (kSums / R >= 8) run.template operator()<8>();
    if constexpr (kSums / R >= 4) run.template operator()<4>();
    if constexpr (kSums / R >= 2) run.template operator()<2>();
    run.template operator()<1>();
  }

  /// One span, whose first key is `origin`.
  KQ_INLINE void span(std::size_t origin, const AttentionState& state) const {
    // What row r sees of it: first[r] … end[r] - 1, counted from its first key on.
    std::size_t first[kQueryTile], end[kQueryTile], least = kKeySpan, greatest = 0;
    for (std::size_t r = 0; r < tile.rows; ++r) {
      first[r] = tile.first[r] > origin ? tile.first[r] - origin : 0;
      end[r] = tile.end[r] > origin ? tile.end[r] - origin : 0;
      if (end[r] > kKeySpan) end[r] = kKeySpan;
      if (first[r] >= end[r]) first[r] = end[r] = 0;
      if (end[r] > 0 && first[r] < least) least = first[r];
      if (end[r] > greatest) greatest = end[r];
    }
    if (greatest == 0) return;
    const std::byte* const keys = tile.keys + origin / kKeyGroup * key_bytes;
    const std::byte* const next_keys = keys + kKeySpan / kKeyGroup * key_bytes;
    const std::byte* const v = tile.values + origin * value_bytes;
    score(keys, v, least, greatest);

    float* const most = values + kQueryTile * padded;
    const AttentionState part{.values = values, .most = most, .sum = most + kQueryTile};
    for (std::size_t i = 0; i < tile.rows * padded; ++i) values[i] = 0.0f;
    // First the largest of all rows: what one row waits for another does not.
    for (std::size_t r = 0; r < tile.rows; ++r)
      part.most[r] = most_of(scores + r * kKeySpan, first[r], end[r]);
    for (std::size_t r = 0; r < tile.rows; ++r)
      part.sum[r] = exponentiate(scores + r * kKeySpan, first[r], end[r], part.most[r]);
    for_rows([&]<int R>(std::size_t row) __attribute__((always_inline)) {
      // Keys that all of these rows see; those before and after them row by row.
      std::size_t from = first[row], to = end[row];
      for (std::size_t r = row + 1; r < row + R; ++r) {
        if (first[r] > from) from = first[r];
        if (end[r] < to) to = end[r];
      }
      if (to < from) to = from;
      for (std::size_t r = row; r < row + R; ++r)
        weigh<1>(v, next_keys, r, first[r], from < end[r] ? from : end[r]);
      weigh<R>(v, next_keys, row, from, to);
      for (std::size_t r = row; r < row + R; ++r)
        weigh<1>(v, next_keys, r, to > first[r] ? to : first[r], end[r]);
    });
    merge(part, tile.rows, tile.dim_v, state);
  }

  static void merge(const AttentionState& next, std::size_t rows, std::size_t dim_v,
                    const AttentionState& state) noexcept {
    const std::size_t padded = padded_to(dim_v, kKeyGroup);
    for (std::size_t r = 0; r < rows; ++r) {
      if (next.sum[r] == 0.0f) continue;  // saw no key
      const float most = next.most[r] > state.most[r] ? next.most[r] : state.most[r];
      const Floats old_factor = exponential<Isa>(Floats::all(state.most[r] - most));
      const Floats new_factor = exponential<Isa>(Floats::all(next.most[r] - most));
      const float* const from = next.values + r * padded;
      float* const to = state.values + r * padded;
      for (std::size_t i = 0; i < padded; i += kLanes)
        (Isa::load(to + i) * old_factor + Isa::load(from + i) * new_factor).store(to + i);
      state.sum[r] =
          (Floats::all(state.sum[r]) * old_factor + Floats::all(next.sum[r]) * new_factor).first();
      state.most[r] = most;
    }
  }

  static void finish(const AttentionState& state, std::size_t row, std::size_t dim_v,
                     float* out) noexcept {
    const Floats inverse = Floats::all(1.0f / state.sum[row]);
    const float* const from = state.values + row * padded_to(dim_v, kKeyGroup);
    map<Isa>(
        from, from, dim_v,
        out, [&](Floats v, Floats) __attribute__((always_inline)) { return v * inverse; });
  }

  static void run(const AttentionTile& tile, std::size_t first, std::size_t end,
                  const AttentionState& state) noexcept {
    float* const q = tile.scratch;
    float* const scores = q + kQueryTile * tile.dim_k;
    for (std::size_t r = 0; r < tile.rows; ++r)
      for (std::size_t d = 0; d < tile.dim_k; ++d) q[d * kQueryTile + r] = tile.q[r][d];
    const Attend attend{.tile = tile,
                        .q = q,
                        .scores = scores,
                        .values = scores + kQueryTile * kKeySpan,
                        .key_bytes = key_group_bytes(Kv::kKind, tile.dim_k),
                        .value_bytes = kernels::value_bytes(Kv::kKind, tile.dim_v),
                        .padded = padded_to(tile.dim_v, kKeyGroup)};
    for (std::size_t span = first; span < end; ++span) attend.span(span * kKeySpan, state);
  }
};

template <class Isa>
constexpr AttentionOps attention_ops() {
  AttentionOps ops{};
  const auto add = [&]<class Kv>() {
    constexpr auto kKind = static_cast<std::size_t>(Kv::kKind);
    ops.store_key[kKind] = Kv::store_key;
    ops.store_value[kKind] = Kv::store_value;
    ops.attend[kKind] = Attend<Kv, Isa>::run;
  };
  add.template operator()<PlainKv<F16, Isa>>();
  add.template operator()<PlainKv<F32, Isa>>();
  add.template operator()<Q8Kv<Isa>>();
  ops.merge = Attend<PlainKv<F32, Isa>, Isa>::merge;
  ops.finish = Attend<PlainKv<F32, Isa>, Isa>::finish;
  return ops;
}

}  // namespace kquant::kernels
