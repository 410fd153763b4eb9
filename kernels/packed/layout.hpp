#pragma once
// Packed weights: 16 rows interleaved, so that a vector's lanes are rows and no sum ever has to be
// taken across lanes.
//
// A panel is 16 rows of W (rows of zeros complete the last one), one stream of bytes from its first
// block to its last, all of it in multiples of 64 bytes. Nothing is expanded: a panel is as large
// as the 16 rows in the file, or 32 bytes larger.
//
//     with mins       | d dmin | scales | codes |  next block …
//     without         | d0  d1 | scales | codes | scales | codes |  next two blocks …
//
//     d, dmin  16 binary16 numbers each
//     scales   (k-quants) the words of a block's field `sc`, each 16 rows wide;
//              F::unpack_scale_words takes the vectors as it takes words
//     codes    of 32 columns (a run), 64 * kBits bytes. A vector of codes is 64 bytes: lane (row) r
//              holds columns 4t … 4t + 3. The eight vectors t = 0 … 7 of a run are split by bits:
//
//                  low plane, L bits a code (2, 4 or 8): L vectors; vector v carries, from its low
//                  bits up, codes t = v, v + L, v + 2L, …
//                  high plane, H bits a code (0, 1 or 2): H vectors, in the same way
//
//                  bits    2    3    4    5    6    8
//                  L + H   2   2+1   4   4+1  4+2   8
//
// Codes are unsigned. Signed bytes (Q8_0) are stored + 128, so every format is
//
//     value = d * scale * (code - kOffset) - dmin * min

#include <cstddef>

#include "kernels/isa/rows.hpp"
#include "kernels/table.hpp"
#include "kernels/unpack.hpp"
#include "kquant/format/run.hpp"

namespace kquant::kernels {

inline constexpr std::size_t kVectorBytes = 64;  ///< 4 columns of a panel, or a word of each row
inline constexpr int kRunVectors = 8;            ///< of unpacked codes, in 32 columns

/// Rows of X from which on two panels at once pay, where there are registers for it: with fewer,
/// two streams are read more slowly than one. Q4_K and Q5_K, which have most to do beside products
/// with one panel already, gain later.
template <class F>
inline constexpr std::size_t kTwoPanelsFrom = (F::kHasMin && F::kBits >= 4) ? 48 : 20;

template <class F>
struct PackedLayout {
  static constexpr int kLowBits = F::kBits >= 8 ? 8 : F::kBits >= 4 ? 4 : 2;
  static constexpr int kHighBits = F::kBits - kLowBits;
  static_assert(kHighBits >= 0 && kHighBits <= 2 && F::kBlock % 32 == 0);
  static constexpr int kOffset = F::kSigned ? 128 : F::kZero;
  static constexpr int kMaxCode = (1 << F::kBits) - 1;
  static constexpr std::size_t kRunsInBlock = F::kBlock / 32;
  static constexpr std::size_t kRunBytes = kVectorBytes * F::kBits;
  static constexpr std::size_t kScaleWords =
      (sizeof(typename F::Block) - F::kBlock * F::kBits / 8 - (F::kHasMin ? 4 : 2)) / 4;
  static constexpr std::size_t kBodyBytes = kScaleWords * kVectorBytes + kRunsInBlock * kRunBytes;
  static constexpr std::size_t kFactorBytes = kPanelRows * sizeof(Half);
  static constexpr std::size_t kBlocksAHead =
      F::kHasMin ? 1 : 2;  ///< that share 64 bytes of factors

  /// Offsets in a panel, of block b.
  KQ_INLINE static std::size_t d_at(std::size_t b) {
    return b / kBlocksAHead * kVectorBytes + b / kBlocksAHead * kBlocksAHead * kBodyBytes +
           b % kBlocksAHead * kFactorBytes;
  }
  KQ_INLINE static std::size_t dmin_at(std::size_t b) { return d_at(b) + kFactorBytes; }
  KQ_INLINE static std::size_t scales_at(std::size_t b) {
    return (b / kBlocksAHead + 1) * kVectorBytes + b * kBodyBytes;
  }
  KQ_INLINE static std::size_t codes_at(std::size_t b) {
    return scales_at(b) + kScaleWords * kVectorBytes;
  }
  KQ_INLINE static std::size_t panel_bytes(std::size_t cols) {
    const std::size_t n = cols / F::kBlock;
    return (n + kBlocksAHead - 1) / kBlocksAHead * kVectorBytes + n * kBodyBytes;
  }
};

/// A vector of codes, read exactly here: the processor's prefetcher follows ascending addresses,
/// and a compiler that mixes the loads of two planes loses a quarter of the memory's bandwidth.
template <class Isa>
KQ_INLINE typename Isa::Rows::Word load_in_order(const std::uint8_t* p) {
  auto word = Isa::Rows::template load<typename Isa::Rows::Word>(p);
  keep_in_order(word);
  return word;
}

/// The eight vectors of codes of the run at p (of rows `slice` on).
template <class F, class Isa>
KQ_INLINE void unpack_run(const std::uint8_t* p, typename Isa::Rows::Word (&codes)[kRunVectors]) {
  using Layout = PackedLayout<F>;
  using Word = typename Isa::Rows::Word;
  constexpr int kLow = Layout::kLowBits, kHigh = Layout::kHighBits;
  constexpr std::uint32_t kLowMask = 0x01010101u * ((1u << kLow) - 1u);
  unrolled<kLow>([&]<int v>() __attribute__((always_inline)) {
    const Word word = load_in_order<Isa>(p + v * static_cast<int>(kVectorBytes));
    if constexpr (kLow == 8)
      codes[v] = word;
    else
      unrolled<kRunVectors / kLow>([&]<int i>() __attribute__((always_inline)) {
        codes[v + kLow * i] = (word >> (kLow * i)) & kLowMask;
      });
  });
  if constexpr (kHigh > 0) {
    constexpr std::uint32_t kHighMask = (0x01010101u * ((1u << kHigh) - 1u)) << kLow;
    unrolled<kHigh>([&]<int v>() __attribute__((always_inline)) {
      const Word word = load_in_order<Isa>(p + (kLow + v) * static_cast<int>(kVectorBytes));
      unrolled<kRunVectors / kHigh>([&]<int i>() __attribute__((always_inline)) {
        constexpr int kUp = kLow - kHigh * i;
        const Word placed = kUp >= 0 ? word << (kUp >= 0 ? kUp : 0) : word >> (kUp < 0 ? -kUp : 0);
        codes[v + kHigh * i] |= placed & kHighMask;
      });
    });
  }
}

/// The same for formats of two or three bits, but of two codes in four bits the upper one stays
/// where it is: vectors 2, 3, 6 and 7 are four times their codes.
template <class F, class Isa>
KQ_INLINE void unpack_in_place(const std::uint8_t* p,
                               typename Isa::Rows::Word (&codes)[kRunVectors]) {
  using Layout = PackedLayout<F>;
  using Word = typename Isa::Rows::Word;
  static_assert(Layout::kLowBits == 2 && Layout::kHighBits <= 1);
  const Word planes[2] = {load_in_order<Isa>(p), load_in_order<Isa>(p + kVectorBytes)};
  Word high{};
  if constexpr (Layout::kHighBits == 1) high = load_in_order<Isa>(p + 2 * kVectorBytes);
  unrolled<4>([&]<int i>() __attribute__((always_inline)) {
    constexpr int t = i % 2 + i / 2 * 4, kUp = 2 - t;
    const Word word = planes[i % 2] >> (4 * (i / 2));
    codes[t] = word & 0x03030303u;
    codes[t + 2] = word & 0x0c0c0c0cu;
    if constexpr (Layout::kHighBits == 1) {
      const Word placed = kUp >= 0 ? high << (kUp >= 0 ? kUp : 0) : high >> (kUp < 0 ? -kUp : 0);
      codes[t] |= placed & 0x04040404u;
      codes[t + 2] |= placed & 0x10101010u;
    }
  });
}

/// sums[p] += vectors kFrom … of panel p's codes times the row of X at a.
template <int kMaxCode, int kFrom, int kCount, class Isa, int kPanels>
KQ_INLINE void dot(typename Isa::Rows::Int (&sums)[kPanels],
                   const typename Isa::Rows::Word (&codes)[kPanels][kRunVectors],
                   const std::int8_t* a) {
  if constexpr (kPanels == 1)
    sums[0] = Isa::template dot<kMaxCode, kCount>(sums[0], codes[0] + kFrom, a + 4 * kFrom);
  else
    Isa::template dot_shared<kFrom, kCount>(sums, codes, a);
}

/// unpack_run's inverse. A Word is four columns of some rows.
template <class F, class Word>
KQ_INLINE void pack_run(const Word (&codes)[kRunVectors], std::uint8_t* p) {
  using Layout = PackedLayout<F>;
  constexpr int kLow = Layout::kLowBits, kHigh = Layout::kHighBits;
  constexpr std::uint32_t kLowMask = 0x01010101u * ((1u << kLow) - 1u);
  const auto put = [&](int vector, const Word& plane) __attribute__((always_inline)) {
    __builtin_memcpy(p + static_cast<std::size_t>(vector) * kVectorBytes, &plane, sizeof plane);
  };
  unrolled<kLow>([&]<int v>() __attribute__((always_inline)) {
    Word plane = codes[v] & kLowMask;
    unrolled<kRunVectors / kLow - 1>([&]<int i>() __attribute__((always_inline)) {
      constexpr int kUp = kLow * (i + 1);
      plane |= (codes[v + kUp] & kLowMask) << kUp;
    });
    put(v, plane);
  });
  if constexpr (kHigh > 0) {
    constexpr std::uint32_t kHighMask = 0x01010101u * ((1u << kHigh) - 1u);
    unrolled<kHigh>([&]<int v>() __attribute__((always_inline)) {
      Word plane{};
      unrolled<kRunVectors / kHigh>([&]<int i>() __attribute__((always_inline)) {
        plane |= ((codes[v + kHigh * i] >> kLow) & kHighMask) << (kHigh * i);
      });
      put(kLow + v, plane);
    });
  }
}

}  // namespace kquant::kernels
