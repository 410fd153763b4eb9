#pragma once
// Pages of 2 MiB make a stream of reads faster: fewer of them are missing from the TLB.

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace kquant {

inline constexpr std::size_t kHugePage = std::size_t{2} << 20;
inline constexpr std::size_t kStreamAlign = 64;  ///< bytes: a cache line, a register of AVX-512

/// Asks for huge pages where whole ones lie in `bytes` bytes at p. Memory that is not touched costs
/// nothing then either. A system that has none is no error.
inline void prefer_huge_pages(std::byte* p, std::size_t bytes) {
  const std::size_t before =
      (kHugePage - reinterpret_cast<std::uintptr_t>(p) % kHugePage) % kHugePage;
  if (bytes < before + kHugePage) return;
  madvise(p + before, (bytes - before) / kHugePage * kHugePage, MADV_HUGEPAGE);
}

/// Memory that weights are read from, aligned to kStreamAlign and on huge pages where it fills any;
/// std::free() gives it back. Null: the system has not as much.
inline std::byte* allocate_for_streams(std::size_t bytes) {
  const std::size_t align = bytes >= kHugePage ? kHugePage : kStreamAlign;
  void* p = nullptr;
  if (posix_memalign(&p, align, std::max<std::size_t>(bytes, 1)) != 0) return nullptr;
  auto* const memory = static_cast<std::byte*>(p);
  prefer_huge_pages(memory, bytes);
  return memory;
}

}  // namespace kquant
