#pragma once
// What kernels are written in. Two implementations of the same functions: PTX on a GPU, and an
// emulator on the CPU, so that every kernel's logic is tested where there is no GPU: index maps,
// barriers, asynchronous copies, warp-wide exchanges.
//
//     who am I          thread(), lane(), warp(), block(), grid()
//     together          sync_block(), sync_warp(), shuffle_xor(), any_of_warp(), shared_memory()
//     copies            copy_async(), commit_copies(), wait_copies<N>(), load16(), store16()
//     half pairs        sub(), mul(), fma(), low_twice(), high_twice(), to_half2(), to_bfloat2()
//     bits              permute_bytes(), select_bits()
//     tensor cores      mma(), load_transposed()
//     between blocks    add_to(), take_ticket()
//     between launches  wait_for_previous_launches()
//
// A warp-wide function (shuffle_xor, any_of_warp, mma, load_transposed, sync_warp) is called by all
// 32 lanes.
//
// A launch may begin while the one before it still runs, so that its beginning hides the other's
// end. Every thread of every kernel therefore calls wait_for_previous_launches() before it reads
// what a launch has written, or writes anything. Before that there is what no launch ever writes:
// weights.

#include <cstddef>
#include <cstdint>

#include "kquant/base/half.hpp"
#include "kquant/base/macros.hpp"

namespace kquant::cuda {

inline constexpr int kWarp = 32;

/// 16 bytes, the widest access of a lane. Addresses are multiples of 16.
struct alignas(16) Words4 {
  std::uint32_t at[4];
};

/// Two floats in one access.
struct alignas(8) FloatPair {
  float x, y;
};

/// Two binary16 numbers in a register.
struct Half2 {
  std::uint32_t bits;
};

struct Position {
  int x, y, z;
};

/// Size of a launch: blocks, threads of each, bytes of shared memory of each.
struct Launch {
  int x = 1, y = 1, z = 1;
  int threads = kWarp;
  std::size_t shared = 0;
};

KQ_HOST_DEVICE constexpr std::uint32_t twice(std::uint16_t half_bits) {
  return half_bits * 0x00010001u;
}

}  // namespace kquant::cuda

#if defined(__CUDACC__)
#include "cuda/vocabulary/nvidia.cuh"
#else
#include "cuda/vocabulary/emulated.hpp"
#endif
