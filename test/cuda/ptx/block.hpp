#pragma once
// A block of threads as it runs: warp by warp, until each has to wait, in random order.
//
// Lanes of a warp that have branched apart run in groups: always the one that is least far in the
// text, as compilers lay loops and joins out for that; groups that meet are one again. What all
// lanes do together (`collective`) waits for all.
//
// Copies to shared memory arrive as late as they may, and until then their place has ones in it:
// those of cp.async when the warp waits for them, bulk copies when nothing else can go on, or
// sometime before.

#include <array>
#include <bit>
#include <random>
#include <type_traits>

#include "memory.hpp"
#include "program.hpp"
#include "traffic.hpp"

namespace kquant::ptx {

inline constexpr u32 kLanes = 32, kAllLanes = ~0u;

/// fn(lane) for each lane of `active`.
template <class Fn>
void lanes(u32 active, Fn&& fn) {
  if (active == kAllLanes)
    for (u32 lane = 0; lane < kLanes; ++lane) fn(lane);
  else
    for (; active != 0; active &= active - 1) fn(static_cast<u32>(std::countr_zero(active)));
}

struct Warp {
  struct Group {
    int next = 0;  ///< instruction
    u32 lanes = 0;
    bool gave_way = false, waits_for_lanes = false;
  };
  struct Copy {
    u32 to = 0;
    u64 from = 0;
  };
  u32 number = 0;
  u32 alive = 0;
  std::vector<u32> narrow;  ///< registers, 32 lanes each
  std::vector<u64> wide;
  std::vector<u8> local;
  std::vector<Group> groups;
  bool at_barrier = false;
  bool gives_way = false;  ///< set by an instruction after which others have to do something first
  Moments knows;
  std::vector<Copy> copies;  ///< since the last commit
  std::vector<std::vector<Copy>> copy_groups;
  /// What a wgmma may still be reading: shared memory and registers, with what these have.
  struct Product {
    std::vector<u32> reads;  ///< 16 bytes from each on
    std::array<Register, 4> registers;
    std::array<std::array<u32, kLanes>, 4> values;
  };
  std::vector<Product> products;  ///< since the last commit
  std::vector<std::vector<Product>> product_groups;

  template <class T>
  T get(Register r, u32 lane) const {
    if constexpr (sizeof(T) == 8)
      return std::bit_cast<T>(wide[r.index * kLanes + lane]);
    else if constexpr (std::is_same_v<T, float>)
      return std::bit_cast<T>(narrow[r.index * kLanes + lane]);
    else
      return r.wide ? static_cast<T>(wide[r.index * kLanes + lane])
                    : static_cast<T>(narrow[r.index * kLanes + lane]);
  }
  /// Integers are extended to the register as their type says.
  template <class T>
  void set(Register r, u32 lane, T v) {
    if constexpr (std::is_same_v<T, float>)
      narrow[r.index * kLanes + lane] = std::bit_cast<u32>(v);
    else if (r.wide)
      wide[r.index * kLanes + lane] = static_cast<u64>(static_cast<i64>(v));
    else
      narrow[r.index * kLanes + lane] = static_cast<u32>(v);
  }
  /// What the first lane of `active` has, where all have the same.
  u32 uniform(Register r, u32 active) const {
    return get<u32>(r, static_cast<u32>(std::countr_zero(active)));
  }
  /// Where an instruction of memory reads or writes; and where it copies from.
  u64 address(const Instruction& i, u32 lane) const {
    const Register base = i.operands[0];
    return (base.wide ? get<u64>(base, lane) : get<u32>(base, lane)) + static_cast<u64>(i.offset);
  }
  u64 source(const Instruction& i, u32 lane) const {
    return get<u64>(i.operands[1], lane) + static_cast<u64>(i.from_offset);
  }
  void happens() { ++knows[number]; }
};

/// An mbarrier: its phase ends when all have arrived, and all bytes.
struct PhaseBarrier {
  i64 arrivals = 0;  ///< that a phase takes
  i64 missing = 0, missing_bytes = 0;
  u32 phase = 0;
  Moments of_arrivals, of_ended;  ///< what who arrives, and who waits, knows
};

struct Dim {
  u32 x = 1, y = 1, z = 1;
};

struct Block {
  Block(const Kernel& kernel, Dim grid, u32 threads, u32 shared_bytes, const u8* parameters);
  /// From its first instruction to its last.
  void run(Dim position, u64 seed);

  /// Called by instructions.
  void arrive(Warp& warp, u32 name, u32 threads);
  PhaseBarrier& phase_barrier(u32 at);
  void end_phases(PhaseBarrier& barrier);
  struct BulkCopy {
    u32 to = 0, bytes = 0;
    u64 from = 0;
    u32 barrier = 0;
    Moments knows;
  };

  const Kernel& kernel;
  const Dim grid;
  Dim position;
  const u32 threads;
  const u8* const parameters;
  SharedMemory shared;
  std::vector<Warp> warps;
  std::map<u32, PhaseBarrier> phase_barriers;  ///< by their address
  std::vector<BulkCopy> bulk_copies;
  TrafficOfKernel* traffic = nullptr;  ///< where it is counted, if it is

 private:
  struct NamedBarrier {
    u32 threads = 0;
    std::vector<u32> warps;  ///< that have arrived
  };
  void begin(Warp& warp, const Moments& knows);
  u64 special(const std::string& name, u32 thread) const;
  void run_warps();
  void run_warp(Warp& warp, int steps);
  void run_group(Warp& warp, std::size_t index, int meets_at, int& steps);
  void finish_a_copy();
  [[noreturn]] void stuck() const;

  std::array<NamedBarrier, 16> named_barriers_;
  std::mt19937_64 random_;
  const Instruction* current_ = nullptr;
  bool progress_ = false;  ///< since all warps had their turn
};

/// Runs all blocks, one after the other, in random order. Throws Fault, which names the kernel, the
/// block and the line of its text.
void launch(const Kernel& kernel, Dim grid, Dim block, u32 shared_bytes, const u8* parameters,
            u64 seed);

}  // namespace kquant::ptx
