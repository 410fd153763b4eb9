#pragma once
// From the description of a format (format/run.hpp) to codes in registers.
//
// A super-block is 256 weights: one block of a k-quant, or eight blocks of a block32 format. It is
// four chunks of 64, whose byte and bit positions are computed here, at compile time.

#include "kernels/isa/concept.hpp"
#include "kernels/isa/lanes.hpp"

namespace kquant::kernels {

inline constexpr int kSuper = 256;    ///< weights per super-block
inline constexpr int kChunks = 4;     ///< chunks of 64 per super-block
inline constexpr int kQuarters = 16;  ///< quarters of 16 weights per super-block

template <class F>
inline constexpr bool kIsBlock32 = F::kBlock == 32;
template <class F>
inline constexpr int kSuperBytes = static_cast<int>(sizeof(typename F::Block)) *
                                   (kSuper / F::kBlock);

/// Weight 16 * quarter of a super-block: its block, run, and place in the run.
template <class F>
struct QuarterPlace {
  int block_at, run, index;
  static constexpr QuarterPlace of(int quarter) {
    const int weight = 16 * quarter, in_block = weight % F::kBlock;
    return {weight / F::kBlock * static_cast<int>(sizeof(typename F::Block)), in_block / F::kRun,
            in_block % F::kRun};
  }
};

template <class F>
constexpr Plane low_plane(int chunk) {
  Plane plane{};
  for (int t = 0; t < 4; ++t) {
    const auto place = QuarterPlace<F>::of(4 * chunk + t);
    const Run run = F::run(place.run);
    plane.at[t] = place.block_at + run.lo_at + place.index;
    plane.move[t] = -run.lo_shift;
    plane.mask = run.lo_mask;  // the same in every run of a format
  }
  return plane;
}

template <class F>
constexpr Plane high_plane(int chunk) {
  Plane plane{};
  for (int t = 0; t < 4; ++t) {
    const auto place = QuarterPlace<F>::of(4 * chunk + t);
    const Run run = F::run(place.run);
    plane.at[t] = place.block_at + run.hi_at + place.index;
    plane.move[t] = run.hi_up - run.hi_shift;
    plane.mask = run.hi_mask << run.hi_up;
  }
  return plane;
}

template <class F>
constexpr BitPlane high_bits(int chunk) {
  BitPlane plane{};
  for (int t = 0; t < 4; ++t) {
    const auto place = QuarterPlace<F>::of(4 * chunk + t);
    const Run run = F::run(place.run);
    plane.at[t] = place.block_at + run.hi_at + place.index / 8;
    plane.up = run.hi_up;
  }
  return plane;
}

/// Codes 64 * kChunk on of the super-block at p, as stored: unsigned but where F::kSigned.
template <class F, class Isa, int kChunk>
KQ_INLINE typename Isa::Bytes stored_codes(const std::uint8_t* p) {
  constexpr Run kRun = F::run(0);
  const auto low = Isa::template plane<low_plane<F>(kChunk)>(p);
  if constexpr (kRun.hi_bit_plane)
    return Isa::merge(low, Isa::template bit_plane<high_bits<F>(kChunk)>(p));
  else if constexpr (kRun.hi_mask != 0)
    return Isa::merge(low, Isa::template plane<high_plane<F>(kChunk)>(p));
  else
    return low;
}

/// Codes less the zero point: int8.
template <class F, class Isa, int kChunk>
KQ_INLINE typename Isa::Bytes signed_codes(const std::uint8_t* p) {
  const auto codes = stored_codes<F, Isa, kChunk>(p);
  if constexpr (F::kZero != 0)
    return Isa::subtract(codes, F::kZero);
  else
    return codes;
}

/// Offsets of the binary16 factors of a block32 format (those of k-quants are read by F::d).
template <class F>
KQ_INLINE constexpr int d_at() {
  return static_cast<int>(offsetof(typename F::Block, d));
}
template <class F>
KQ_INLINE constexpr int min_at() {
  return static_cast<int>(offsetof(typename F::Block, m));
}

/// d and dmin * min of the eight blocks of a block32 super-block.
template <class F, class Isa>
KQ_INLINE typename Isa::Octet block_scales(const std::uint8_t* p) {
  return Isa::template halves<sizeof(typename F::Block)>(p + d_at<F>());
}
template <class F, class Isa>
KQ_INLINE typename Isa::Octet block_mins(const std::uint8_t* p) {
  const float min = static_cast<float>(F::unpack_scales(typename F::Block{}).min_at(0));
  const float factors[8] = {min, min, min, min, min, min, min, min};
  return Isa::multiply(Isa::template halves<sizeof(typename F::Block)>(p + min_at<F>()),
                       Isa::load_octet(factors));
}

}  // namespace kquant::kernels
