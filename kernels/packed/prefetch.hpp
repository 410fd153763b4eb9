#pragma once
// Asking for packed weights ahead of their use. One row of X is bound by memory: some processors
// would read as fast by themselves, as long as addresses ascend (Zen 4), others at half their speed
// (Zen 5). With more rows none does: its window is full of products.
//
// Lines go all the way to L1. Those that were asked for only into L2 made some loops over few rows
// of X half as fast on Zen 5; which ones changed with the addresses of their code
// (docs/performance.md).

#include <cstddef>
#include <cstdint>

#include "kernels/isa/lanes.hpp"
#include "kquant/base/macros.hpp"

namespace kquant::kernels {

inline constexpr std::size_t kPrefetchAhead = 9728;

/// What comes kPrefetchAhead after p, of a stream whose kBytes at p are read now; of kStreams side
/// by side, nearer in proportion: as many bytes in all are on their way.
template <std::size_t kBytes, int kStreams = 1>
KQ_INLINE void prefetch(const std::uint8_t* p) {
  unrolled<static_cast<int>(kBytes / 64)>([&]<int kLine>() __attribute__((always_inline)) {
    __builtin_prefetch(p + kPrefetchAhead / kStreams + 64 * kLine, 0, 3);
  });
}

}  // namespace kquant::kernels
