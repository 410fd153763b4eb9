#pragma once
// The contract of a block format: everything that scalar, SIMD and CUDA code needs to know of a
// layout, said once, as data.
//
// A block holds kBlock weights in runs of kRun. The codes of a run lie in at most two planes, and
// all weights of a run are found at the same shift of consecutive bytes, so that one vector load,
// one shift and one mask yield a whole run:
//
//     q[i] = ((lo[i] >> lo_shift) & lo_mask)  |  (high bits of weight i) << hi_up
//
//              byte plane (k-quants)                     bit plane (Q5_0, Q5_1)
//     high bits = (hi[i] >> hi_shift) & hi_mask          (hi[i / 8] >> (i % 8)) & 1
//
// and every kSub consecutive weights share a small integer scale (and min):
//
//     value = (d * scale) * (q - kZero) - (dmin * min)            evaluated in binary32, left to
//     right
//
// A format F is a struct with
//     Block                       packed bytes as in a GGUF file
//     type, name                  GGUF's id and spelling
//     kBlock, kRun, kSub          weights per block, per run, per scale
//     kBits                       bits of a code;  0 <= q < 2^kBits, or int8 where kSigned
//     kZero, kHasMin, kSigned
//     run(g)                      where run g lies; g is a compile-time constant in every kernel
//     unpack_scales(block)        ScaleWords<kBlock / kSub>
//     unpack_scale_words(words)   the same from the words of the field `sc`, where there is one
//     unpack_scale_word(words, w) one word of each of that: scales (and mins) 4w … 4w + 3
//     pack_scales(words, block)   its inverse, for the quantizer
//     d(block), dmin(block)       super-block factors (dmin only where kHasMin)
//     set_d(block, d, dmin)
//
// Source of all layouts: the GGUF/ggml block structures, as documented by
// github.com/ggml-org/ggml (docs/gguf.md and src/ggml-common.h).

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kquant/base/half.hpp"
#include "kquant/base/macros.hpp"
#include "kquant/format/info.hpp"

namespace kquant {

/// Where the codes of one run lie. Offsets are bytes from the start of the block.
struct Run {
  int lo_at = 0;
  int lo_shift = 0;
  int lo_mask = 0;
  int hi_at = 0;
  int hi_shift = 0;
  int hi_mask = 0;  ///< 0: this run has no high plane
  int hi_up = 0;    ///< how far the high bits move up in the code
  bool hi_bit_plane =
      false;  ///< one bit a weight, eight weights a byte, instead of one byte a weight
};

/// Four scales, and the mins that belong to them.
template <class Word>
struct ScaleWord {
  Word scale{}, min{};
};

/// Scales and mins of one block, four to a 32-bit word, lowest byte first. They stay in registers:
/// taking 6-bit scales apart byte by byte, or through memory, makes a dot product 1.2-3x slower.
/// Word is one 32-bit number, or a vector of them: the same field of several blocks at once.
template <int N, class Word = std::uint32_t>
struct ScaleWords {
  static constexpr int kWords = (N + 3) / 4;
  Word scale[kWords];
  Word min[kWords];

  KQ_INLINE constexpr int scale_at(int j) const {
    return static_cast<std::int8_t>((scale[j / 4] >> (8 * (j % 4))) & 0xffu);
  }
  KQ_INLINE constexpr int min_at(int j) const {
    return static_cast<std::int8_t>((min[j / 4] >> (8 * (j % 4))) & 0xffu);
  }
  KQ_INLINE constexpr void set_scale(int j, int value) { set(scale, j, value); }
  KQ_INLINE constexpr void set_min(int j, int value) { set(min, j, value); }

 private:
  KQ_INLINE static constexpr void set(std::uint32_t* words, int j, int value) {
    const int at = 8 * (j % 4);
    words[j / 4] &= ~(0xffu << at);
    words[j / 4] |= (static_cast<std::uint32_t>(value) & 0xffu) << at;
  }
};

/// All of a block's, from the words of its field `sc`.
template <class F, class Word>
KQ_INLINE constexpr auto unpack_every_scale_word(const Word* sc) {
  ScaleWords<F::kBlock / F::kSub, Word> s{};
  for (int w = 0; w < s.kWords; ++w) {
    const ScaleWord<Word> word = F::unpack_scale_word(sc, w);
    s.scale[w] = word.scale;
    s.min[w] = word.min;
  }
  return s;
}

/// Little-endian 32-bit word at any address.
KQ_INLINE constexpr std::uint32_t load_word(const std::uint8_t* p) {
  return std::uint32_t{p[0]} | std::uint32_t{p[1]} << 8 | std::uint32_t{p[2]} << 16 |
         std::uint32_t{p[3]} << 24;
}

template <int N>
struct Words {
  std::uint32_t at[N];
};
template <int N>
KQ_INLINE constexpr Words<N> load_words(const std::uint8_t* p) {
  Words<N> words{};
  for (int i = 0; i < N; ++i) words.at[i] = load_word(p + 4 * i);
  return words;
}

KQ_INLINE constexpr void store_word(std::uint8_t* p, std::uint32_t word) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<std::uint8_t>(word >> (8 * i));
}

template <class F>
concept BlockFormat = requires(const typename F::Block& block, typename F::Block& out,
                               const ScaleWords<F::kBlock / F::kSub>& scales) {
  { F::type } -> std::convertible_to<TensorType>;
  { F::name } -> std::convertible_to<std::string_view>;
  { F::run(0) } -> std::same_as<Run>;
  { F::unpack_scales(block) } -> std::same_as<ScaleWords<F::kBlock / F::kSub>>;
  F::pack_scales(scales, out);
  { F::d(block) } -> std::same_as<float>;
  { F::dmin(block) } -> std::same_as<float>;
  F::set_d(out, 0.0f, 0.0f);
  requires F::kBlock % F::kRun == 0 && F::kBlock % F::kSub == 0;
  requires sizeof(typename F::Block) == type_info(F::type).block_bytes;
};

template <class F>
inline constexpr int kRuns = F::kBlock / F::kRun;
template <class F>
inline constexpr int kSubs = F::kBlock / F::kSub;

/// Code of weight `i` of run `g`: 0 … 2^kBits - 1, or int8 for a signed format.
template <class F>
KQ_INLINE constexpr int code_at(const std::uint8_t* block_bytes, int g, int i) {
  const Run run = F::run(g);
  int q = (block_bytes[run.lo_at + i] >> run.lo_shift) & run.lo_mask;
  if (run.hi_bit_plane)
    q |= ((block_bytes[run.hi_at + i / 8] >> (i % 8)) & 1) << run.hi_up;
  else if (run.hi_mask != 0)
    q |= ((block_bytes[run.hi_at + i] >> run.hi_shift) & run.hi_mask) << run.hi_up;
  return F::kSigned ? static_cast<std::int8_t>(q) : q;
}

KQ_INLINE constexpr void set_bits(std::uint8_t& byte, int bits) {
  byte = static_cast<std::uint8_t>(byte | bits);
}

/// Stores code `q` of weight `i` of run `g` in a block whose planes are zero so far.
template <class F>
KQ_INLINE constexpr void put_code(std::uint8_t* block_bytes, int g, int i, int q) {
  const Run run = F::run(g);
  set_bits(block_bytes[run.lo_at + i], (q & run.lo_mask) << run.lo_shift);
  if (run.hi_bit_plane)
    set_bits(block_bytes[run.hi_at + i / 8], ((q >> run.hi_up) & 1) << (i % 8));
  else if (run.hi_mask != 0)
    set_bits(block_bytes[run.hi_at + i], ((q >> run.hi_up) & run.hi_mask) << run.hi_shift);
}

/// Value of a code, given its products `d * scale` and `dmin * min`. The order of operations is
/// part of the format: it is what makes dequantization bit-identical everywhere (compile with
/// -ffp-contract=off).
template <class F>
KQ_INLINE constexpr float code_value(float d_scale, float dmin_min, int q) {
  const float value = d_scale * static_cast<float>(q - F::kZero);
  return F::kHasMin ? value - dmin_min : value;
}

template <class F>
KQ_INLINE const std::uint8_t* bytes_of(const typename F::Block& block) {
  return reinterpret_cast<const std::uint8_t*>(&block);
}
template <class F>
KQ_INLINE std::uint8_t* bytes_of(typename F::Block& block) {
  return reinterpret_cast<std::uint8_t*>(&block);
}

/// Reference dequantization of one block to kBlock floats; all other paths must equal it bit for
/// bit.
template <class F>
KQ_INLINE void dequantize_block(const typename F::Block& block, float* out) {
  const auto scales = F::unpack_scales(block);
  const float d = F::d(block);
  const float dmin = F::dmin(block);
  for (int g = 0; g < kRuns<F>; ++g)
    for (int i = 0; i < F::kRun; ++i) {
      const int weight = g * F::kRun + i;
      const int sub = weight / F::kSub;
      const float d_scale = d * static_cast<float>(scales.scale_at(sub));
      const float dmin_min = F::kHasMin ? dmin * static_cast<float>(scales.min_at(sub)) : 0.0f;
      out[weight] = code_value<F>(d_scale, dmin_min, code_at<F>(bytes_of<F>(block), g, i));
    }
}

}  // namespace kquant
