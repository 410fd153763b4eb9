#pragma once
// Causal attention over the cache, for prefill and decoding: softmax(q k^T) v with grouped heads,
// an optional window and soft cap, softmax on the fly (arXiv:2205.14135, 2307.08691).
//
// A block has up to 64 query rows (tokens x the heads that share a KV head) and walks keys 64 at a
// time (32 of more than 128 dimensions), two tiles of K and V in shared memory: cp.async brings the
// next one while tensor cores work on this one. Scores stay in registers and become operand A of
// the product with V as they are. Its warps share the work by rows or, where there are no more
// than one warp's (decoding), by keys:
//
//     Split::kRows                           Split::kKeys
//
//                keys of a tile                         keys of a tile
//                +--------------+                       +---+---+---+---+
//     16 rows    |    warp 0    |            16 rows    | 0 | 1 | 2 | 3 |
//     16 rows    |    warp 1    |                       +---+---+---+---+
//     16 rows    |    warp 2    |
//     16 rows    |    warp 3    |            warp 0 adds up what the warps found.
//                +--------------+
//
// Where all blocks together have few rows to many keys, keys are divided among blocks too, and
// merge_attention adds up what they found.
//
//     registers   scores 32 or 8, values kDim / 2, queries from L1: about 200, 170 at kDim = 128
//     shared      4 tiles of keys x kDim x 2 bytes: 32 KB (64), 64 KB (128, 256)
//     limit       decoding: the memory that K and V are read from (32 KB in flight a block);
//                 prefill: mma.sync, 2 x 64 x 16 x kDim products to 64 x 16 exponentials a warp
//
// Lane 4g + t holds of K's 32-dimension chunks dimensions 8t … 8t + 7, as of W in layout.hpp.

#include "cuda/attention.hpp"

namespace kquant::cuda {

template <int kDim>
struct AttentionShape {
  /// At once; half as many where values take most of the registers.
  static constexpr int kTileKeys = kDim > 128 ? kKeys / 2 : kKeys;
  static constexpr int kTile = kTileKeys * kDim * 2;  ///< bytes of K or V
  static constexpr std::size_t kShared = 4 * kTile;
};

/// How warps share a block's work.
enum class Split { kRows, kKeys };

/// Byte of 16-byte piece `piece` of key `key`. K is read 2 keys x 64 bytes, V 8 keys x 16 bytes at
/// a time: both without a bank conflict.
template <int kDim>
KQ_HOST_DEVICE constexpr int key_byte(int key, int piece) {
  return key * kDim * 2 + (piece ^ (key & 1) << 2) * 16;
}
template <int kDim>
KQ_HOST_DEVICE constexpr int value_byte(int key, int piece) {
  return key * kDim * 2 + (piece ^ (key & 7)) * 16;
}

/// Four signed bytes times d, rounded once.
KQ_DEVICE void halves_of_bytes(std::uint32_t bytes, Half2 d, std::uint32_t (&out)[2]) {
  constexpr std::uint32_t kBase = 0x6400, kMiddle = kBase + 128;  // 1024 + (byte + 128)
#pragma unroll
  for (unsigned i = 0; i < 2; ++i) {
    const std::uint32_t magic =
        permute_bytes(bytes ^ 0x80808080u, kBase >> 8, 0x4040u | (2 * i) | (2 * i + 1) << 8);
    out[i] = mul(sub({magic}, {twice(kMiddle)}), d).bits;
  }
}

/// Brings keys of one head from `first` on; those beyond `end` are the last one, and dimensions
/// that the head does not have are left as they are.
template <int kDim, bool kQ8, class Place>
KQ_DEVICE void load_tile(std::byte* to, const std::byte* codes, const std::byte* scales, int padded,
                         int first, int end, const Place& place) {
  constexpr int kPieceDims = kQ8 ? 16 : 8, kPieces = kDim / kPieceDims;
  constexpr int kAtOnce = kAttentionThreads / kPieces;
  constexpr int kTileKeys = AttentionShape<kDim>::kTileKeys;
  const int piece = thread() % kPieces;
  if (piece * kPieceDims >= padded) return;
#pragma unroll
  for (int i = 0; i < kTileKeys / kAtOnce; ++i) {
    const int key = thread() / kPieces + i * kAtOnce;
    const auto token = static_cast<unsigned>(first + key < end ? first + key : end - 1);
    const auto width = static_cast<unsigned>(padded);
    if constexpr (!kQ8) {
      copy_async(to + place(key, piece), codes + std::size_t{token} * (width * 2) + piece * 16);
    } else {
      const Words4 q = load16(codes + std::size_t{token} * width + piece * 16);
      const Half2 d{twice(reinterpret_cast<const std::uint16_t*>(
          scales)[std::size_t{token} * (width / 32) + static_cast<unsigned>(piece / 2)])};
      // Of eight lanes, whose pieces are two apart, four begin with the second half, to meet all
      // banks; unless those are of a key that has its pieces at odd places where others are even.
      const bool apart = kPieces < 8 && place(1, 0) / 16 % 2 == 1;
      const bool turned = !apart && thread() % 8 >= 4;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const bool second = (i == 1) != turned;
        std::uint32_t h[2][2];
        halves_of_bytes(second ? q.at[2] : q.at[0], d, h[0]);
        halves_of_bytes(second ? q.at[3] : q.at[1], d, h[1]);
        store16(to + place(key, 2 * piece + (second ? 1 : 0)),
                {{h[0][0], h[0][1], h[1][0], h[1][1]}});
      }
    }
  }
}

inline constexpr float kLog2e = 1.44269504f;

/// What a warp has found for its rows g and g + 8.
template <int kTiles8>
struct Found {
  float value[kTiles8][4] = {};  ///< weights times V: fragments of mma, not yet divided by sum
  float most[2], sum[2] = {};    ///< the largest score; weights, exp(score - most)
};

/// Adds to what warp 0 has found what other warps have for the same rows, through all of the
/// block's shared memory from `memory` on. All threads of the block call it.
template <int kWarps, int kTiles8>
KQ_DEVICE void add_up_warps(Found<kTiles8>& found, std::byte* memory) {
  constexpr int kBytes = (kTiles8 + 1) * kWarp * 16;  // of a warp
  std::byte* const mine = memory + lane() * 16;
  const auto words = [](const float(&x)[4]) {
    Words4 out;
#pragma unroll
    for (int e = 0; e < 4; ++e) out.at[e] = __builtin_bit_cast(std::uint32_t, x[e]);
    return out;
  };
  sync_block();  // all have left the tiles that were there
  if (warp() > 0 && warp() < kWarps) {
    std::byte* const to = mine + (warp() - 1) * kBytes;
    store16(to, words({found.most[0], found.most[1], found.sum[0], found.sum[1]}));
#pragma unroll
    for (int j = 0; j < kTiles8; ++j) store16(to + (j + 1) * kWarp * 16, words(found.value[j]));
  }
  sync_block();
  if (warp() > 0) return;

#pragma unroll
  for (int w = 1; w < kWarps; ++w) {
    const std::byte* from = mine + (w - 1) * kBytes;
    const auto floats = [&](int piece, float(&x)[4]) {
      const Words4 loaded = load16(from + piece * kWarp * 16);
#pragma unroll
      for (int e = 0; e < 4; ++e) x[e] = __builtin_bit_cast(float, loaded.at[e]);
    };
    float other[4], shrink[2], grow[2];
    floats(0, other);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float most = fmaxf(found.most[h], other[h]);
      shrink[h] = exp2_fast((found.most[h] - most) * kLog2e);
      grow[h] = exp2_fast((other[h] - most) * kLog2e);
      found.most[h] = most;
      found.sum[h] = fmaf(found.sum[h], shrink[h], other[2 + h] * grow[h]);
    }
#pragma unroll
    for (int j = 0; j < kTiles8; ++j) {
      floats(j + 1, other);
#pragma unroll
      for (int e = 0; e < 4; ++e)
        found.value[j][e] = fmaf(found.value[j][e], shrink[e / 2], other[e] * grow[e / 2]);
    }
  }
}

template <int kDim, bool kQ8, Split kSplit>
KQ_KERNEL(kAttentionThreads)
void attention(AttentionCall a) {
  using S = AttentionShape<kDim>;
  constexpr bool kSameRows = kSplit == Split::kKeys;
  constexpr int kTiles8 = kDim / 8, kTileKeys = S::kTileKeys;
  // A product with V has 16 keys at least: of 32, two warps have some, and all bring them.
  constexpr int kWarpKeys = kSameRows ? 16 : kTileKeys, kScores = kWarpKeys / 8;
  constexpr float kNothing = -3.0e38f;
  wait_for_previous_launches();
  const AttentionTile tile = a.tiles[block().x];
  const int group = a.q_heads / a.kv.heads, padded_k = a.kv.padded_k(), padded_v = a.kv.padded_v();
  const int g = lane() / 4, t = lane() % 4;
  const auto at = [&](std::size_t offset) { return tile.cache + offset; };
  const std::byte* k_codes = at(a.kv.key_codes(a.layer, tile.kv_head, tile.capacity));
  const std::byte* k_scales = at(a.kv.key_scales(a.layer, tile.kv_head, tile.capacity));
  const std::byte* v_codes = at(a.kv.value_codes(a.layer, tile.kv_head, tile.capacity));
  const std::byte* v_scales = at(a.kv.value_scales(a.layer, tile.kv_head, tile.capacity));

  const auto load = [&](int first, int buffer) {
    std::byte* const to = shared_memory() + buffer * 2 * S::kTile;
    load_tile<kDim, kQ8>(to, k_codes, k_scales, padded_k, first, tile.key_end, key_byte<kDim>);
    load_tile<kDim, kQ8>(to + S::kTile, v_codes, v_scales, padded_v, first, tile.key_end,
                         value_byte<kDim>);
    commit_copies();
  };

  // Rows g and g + 8 of this warp. Those beyond the last one repeat it and are not written.
  const int warp_begin = tile.begin + (kSameRows ? 0 : warp() * kWarpRows);
  const int warp_keys = kSameRows ? warp() * kWarpKeys : 0;  // where its keys begin in a tile
  const bool has_work = warp_begin < tile.end && warp_keys < kTileKeys;
  int row[2], position[2];
  const std::uint16_t* q[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    row[h] = warp_begin + g + 8 * h;
    const int r = row[h] < tile.end ? row[h] : tile.end - 1;
    position[h] = tile.first_position + r / group;
    q[h] = a.q +
           (static_cast<std::size_t>(tile.first_row + r / group) *
                static_cast<std::size_t>(a.q_heads) +
            static_cast<std::size_t>(tile.kv_head * group + r % group)) *
               static_cast<std::size_t>(padded_k) +
           8 * t;
  }
  const int last_row =
      warp_begin + kWarpRows <= tile.end ? warp_begin + kWarpRows - 1 : tile.end - 1;
  const int first_position = tile.first_position + warp_begin / group;
  const int last_position = tile.first_position + last_row / group;
  const float per_cap = a.soft_cap > 0 ? 1.0f / a.soft_cap : 0.0f;

  Found<kTiles8> found{.most = {kNothing, kNothing}};
  auto& [value, most, sum] = found;
  int buffer = 0;
  if (tile.key_begin < tile.key_end) load(tile.key_begin, 0);
  for (int begin = tile.key_begin; begin < tile.key_end; begin += kTileKeys, buffer ^= 1) {
    wait_copies<0>();
    sync_block();  // this tile is there, and all have left the other one
    if (begin + kTileKeys < tile.key_end) load(begin + kTileKeys, buffer ^ 1);
    const int first = begin + warp_keys;
    if (!has_work || first >= tile.key_end) continue;
    const std::byte* keys = shared_memory() + buffer * 2 * S::kTile + warp_keys * (kDim * 2);
    const std::byte* values = keys + S::kTile;

    float score[kScores][4] = {};
#pragma unroll
    for (int c = 0; c < kDim / 32; ++c) {
      if (c * 32 >= padded_k) break;
      const Words4 top = load16(q[0] + c * 32), bottom = load16(q[1] + c * 32);
      const std::uint32_t fragment[2][4] = {{top.at[0], bottom.at[0], top.at[1], bottom.at[1]},
                                            {top.at[2], bottom.at[2], top.at[3], bottom.at[3]}};
#pragma unroll
      for (int j = 0; j < kScores; ++j) {
        const Words4 b = load16(keys + key_byte<kDim>(8 * j + g, 4 * c + t));
        mma(score[j], fragment[0], b.at[0], b.at[1]);
        mma(score[j], fragment[1], b.at[2], b.at[3]);
      }
    }

    const auto each_score = [&](const auto& fn) {
#pragma unroll
      for (int j = 0; j < kScores; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) fn(score[j][e], 8 * j + 2 * t + e % 2, e / 2);
    };
    if (a.soft_cap > 0)
      each_score([&](float& s, int, int) { s = a.soft_cap * tanh_fast(s * per_cap); });
    const int last = first + kWarpKeys - 1;
    const bool all_seen = last < tile.key_end && last <= first_position &&
                          (a.window == 0 || first > last_position - a.window);
    if (!all_seen)
      each_score([&](float& s, int at, int h) {
        const int key = first + at;
        const bool seen = key < tile.key_end && key <= position[h] &&
                          (a.window == 0 || key > position[h] - a.window);
        s = seen ? s : kNothing;
      });

    float now[2] = {most[0], most[1]}, base[2];
    each_score([&](float& s, int, int h) { now[h] = fmaxf(now[h], s); });
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      now[h] = fmaxf(now[h], shuffle_xor(now[h], 1));
      now[h] = fmaxf(now[h], shuffle_xor(now[h], 2));
      const float shrink = exp2_fast((most[h] - now[h]) * kLog2e);
      most[h] = now[h];
      // A row that has seen nothing yet: exp(0) of what is hidden must not count.
      base[h] = now[h] == kNothing ? 0.0f : now[h] * kLog2e;
      sum[h] *= shrink;
#pragma unroll
      for (int j = 0; j < kTiles8; ++j) {
        value[j][2 * h] *= shrink;
        value[j][2 * h + 1] *= shrink;
      }
    }
    each_score([&](float& s, int, int h) {
      s = exp2_fast(fmaf(s, kLog2e, -base[h]));
      sum[h] += s;
    });

#pragma unroll
    for (int step = 0; step < kWarpKeys / 16; ++step) {
      const float(&s)[4] = score[2 * step];
      const float(&n)[4] = score[2 * step + 1];
      const std::uint32_t p[4] = {to_half2(s[0], s[1]).bits, to_half2(s[2], s[3]).bits,
                                  to_half2(n[0], n[1]).bits, to_half2(n[2], n[3]).bits};
      const int key = 16 * step + lane() / 8 % 2 * 8 + lane() % 8;
#pragma unroll
      for (int j = 0; j < kTiles8; j += 2) {
        const Words4 b = load_transposed(values + value_byte<kDim>(key, j + lane() / 16));
        mma(value[j], p, b.at[0], b.at[1]);
        mma(value[j + 1], p, b.at[2], b.at[3]);
      }
    }
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    sum[h] += shuffle_xor(sum[h], 1);
    sum[h] += shuffle_xor(sum[h], 2);
  }
  if constexpr (kSameRows) add_up_warps<kTileKeys / kWarpKeys>(found, shared_memory());
  if (kSameRows ? warp() > 0 : !has_work) return;

  const bool even = a.kv.dim_v % 2 == 0;  // pairs of dimensions lie side by side
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (row[h] >= tile.end) continue;
    const float inverse = sum[h] > 0 ? 1.0f / sum[h] : 0.0f;
    const int head = tile.kv_head * group + row[h] % group;
    const int out_row = tile.first_row + row[h] / group, out_col = head * a.kv.dim_v;
    float* part = tile.part < 0 ? nullptr
                                : a.parts + (static_cast<std::size_t>(tile.part) * kQueryRows +
                                             static_cast<std::size_t>(row[h] - tile.begin)) *
                                                static_cast<std::size_t>(part_floats(a.kv.dim_v));
#pragma unroll
    for (int j = 0; j < kTiles8; ++j) {
      const int dim = 8 * j + 2 * t;
      const float x[2] = {value[j][2 * h], value[j][2 * h + 1]};
      if (part != nullptr && dim < padded_v)
        *reinterpret_cast<FloatPair*>(part + dim) = {x[0], x[1]};
      if (part != nullptr || dim >= a.kv.dim_v) continue;
      std::uint16_t* const out = a.out.data + a.out.at(out_row, out_col + dim);
      const Half2 both = to_half2(x[0] * inverse, x[1] * inverse);
      if (even) {
        *reinterpret_cast<std::uint32_t*>(out) = both.bits;
      } else {
        *out = static_cast<std::uint16_t>(both.bits);
        if (dim + 1 < a.kv.dim_v)
          a.out.data[a.out.at(out_row, out_col + dim + 1)] =
              static_cast<std::uint16_t>(both.bits >> 16);
      }
    }
    if (part != nullptr && t == 0) {
      part[padded_v] = most[h];
      part[padded_v + 1] = sum[h];
    }
  }
}

/// One block a row of a tile, a thread a dimension.
template <int = 0>
KQ_KERNEL(256)
void merge_attention(AttentionCall a) {
  wait_for_previous_launches();
  const AttentionMerge m = a.merges[block().x];
  const int row = m.begin + block().y, padded_v = a.kv.padded_v();
  if (row >= m.end || thread() >= a.kv.dim_v) return;
  const auto part = [&](int i) {
    return a.parts + (static_cast<std::size_t>(m.first_part + i) * kQueryRows +
                      static_cast<std::size_t>(block().y)) *
                         static_cast<std::size_t>(part_floats(a.kv.dim_v));
  };
  float most = part(0)[padded_v];
  for (int i = 1; i < m.parts; ++i) most = fmaxf(most, part(i)[padded_v]);
  float value = 0, sum = 0;
  for (int i = 0; i < m.parts; ++i) {
    const float weight = exp2_fast((part(i)[padded_v] - most) * kLog2e);
    value = fmaf(weight, part(i)[thread()], value);
    sum = fmaf(weight, part(i)[padded_v + 1], sum);
  }
  const int group = a.q_heads / a.kv.heads;
  a.out.data[a.out.at(m.first_row + row / group, (m.kv_head * group + row % group) * a.kv.dim_v +
                                                     thread())] = half_bits(value / sum);
}

}  // namespace kquant::cuda
