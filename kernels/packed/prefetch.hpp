#pragma once
// Asking for packed weights ahead of their use. One row of X is bound by memory: some processors
// would read as fast by themselves with it, as long as addresses ascend (Zen 4), others at half
// their speed (Zen 5). With more rows no processor does: its window is full of products.

#include <cstddef>
#include <cstdint>

#include "kernels/isa/lanes.hpp"
#include "kquant/base/macros.hpp"

namespace kquant::kernels {

inline constexpr std::size_t kPrefetchAhead = 9728;

/// Where lines that are asked for go to.
enum class Fetch : std::uint8_t {
  kOnce,  ///< to L1, not to stay: weights are multiplied sooner than they arrive
  kToL2,  ///< the processor does the rest; many lines on their way to L1 stall other loads
  kSoon   ///< as kToL2, and from there to L1 those of the next kBytes: work that waits for nothing
          ///< else waits for L2
};

/// Bytes of codes that are read at p now, and as many again after them.
template <Fetch kFetch, std::size_t kBytes>
KQ_INLINE void prefetch(const std::uint8_t* p) {
  unrolled<static_cast<int>(kBytes / 64)>([&]<int kLine>() __attribute__((always_inline)) {
    const std::uint8_t* line = p + 64 * kLine;
    __builtin_prefetch(line + kPrefetchAhead, 0, kFetch == Fetch::kOnce ? 0 : 2);
    if constexpr (kFetch == Fetch::kSoon) __builtin_prefetch(line + kBytes, 0, 3);
  });
}

/// For so many rows of X, where a register holds kLanes rows of W and a weight has kBits: two rows
/// for four bits and 16 lanes, in proportion otherwise, take less time than their weights to
/// arrive.
template <int kBits, int kLanes>
KQ_INLINE constexpr Fetch fetch_of(std::size_t rows) {
  return 32 * rows <= kBits * kLanes ? Fetch::kOnce : Fetch::kToL2;
}

}  // namespace kquant::kernels
