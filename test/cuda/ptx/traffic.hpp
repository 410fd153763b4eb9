#pragma once
// What a kernel's accesses to memory cost, beside the least that so many bytes can cost.
//
// Lanes of a warp access memory together. Device memory and L2 move sectors of 32 bytes, whole ones
// where only a part is wanted. Shared memory has 32 banks of 4 bytes, each of which gives a word at
// a time, to 32 lanes of up to 4 bytes, 16 of 8, or 8 of 16: two words of one bank take two rounds.
// (CUDA C++ Programming Guide, "Device Memory Accesses" and "Shared Memory".) What caches have
// already is counted like anything else.

#include <map>
#include <string>
#include <string_view>

#include "program.hpp"

namespace kquant::ptx {

struct Traffic {
  u64 sectors = 0, fewest_sectors = 0;
  u64 rounds = 0, fewest_rounds = 0;
  Traffic& operator+=(const Traffic& other);
};

/// Of one instruction of a warp that accesses memory.
Traffic traffic_of(const Warp& warp, const Instruction& instruction, u32 active);

using TrafficOfKernel = std::map<const Instruction*, Traffic>;

/// Of all kernels that are launched while it lives and is the latest.
class TrafficCount {
 public:
  TrafficCount();
  ~TrafficCount();
  TrafficCount(const TrafficCount&) = delete;
  /// By names of kernels.
  std::map<std::string, TrafficOfKernel> kernels;
  /// Of those whose names have this in them.
  Traffic total(std::string_view part_of_name = "") const;
  /// Where a kernel is counted; null where nothing is.
  static TrafficOfKernel* of(const std::string& kernel);

 private:
  TrafficCount* const before_;
};

}  // namespace kquant::ptx
