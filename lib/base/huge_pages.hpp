#pragma once
// Pages of 2 MiB make a stream of reads faster: fewer of them are missing from the TLB.

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace kquant {

inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// Asks for huge pages where whole ones lie in `bytes` bytes at p. Memory that is not touched costs
/// nothing then either. A system that has none is no error.
inline void prefer_huge_pages(std::byte* p, std::size_t bytes) {
  const std::size_t before =
      (kHugePage - reinterpret_cast<std::uintptr_t>(p) % kHugePage) % kHugePage;
  if (bytes < before + kHugePage) return;
  madvise(p + before, (bytes - before) / kHugePage * kHugePage, MADV_HUGEPAGE);
}

}  // namespace kquant
