#pragma once
// What this machine can do at best, with nothing else in the way. Each instruction set has its own
// translation unit (limits_ISA.cpp), compiled for it: call it only where find_isa(name) is.

#include <cstddef>
#include <cstdint>

namespace kquant::bench {

struct Limits {
  const char* isa;
  /// Runs the instruction that multiplies int8, and the addition that goes with it, on registers
  /// only; returns the number of operations (2 a product) of one call.
  double (*multiply)();
  /// Reads n bytes (a multiple of 256); the result depends on all of them. As they come, or with
  /// each line prefetched some KiB ahead.
  std::uint64_t (*read)(const std::byte* p, std::size_t n);
  std::uint64_t (*read_prefetched)(const std::byte* p, std::size_t n);
};

extern const Limits kAvx2Limits;
extern const Limits kAvx512VnniLimits;

}  // namespace kquant::bench
