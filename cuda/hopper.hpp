#pragma once
// The part of the vocabulary (vocabulary.hpp) that only GPUs of compute capability 9.0 have.
//
//     is it there        kHasWarpgroups: in this compilation of a kernel
//                        kBuiltForWarpgroups: in one of those of the build
//     barriers           init_barrier(), publish_barriers(), arrive(), expect_bytes(), wait()
//     copies             copy_bulk(): the copy engine's, any number of bytes, to a barrier
//     tensor cores       operand_rows(), fence_operands(), multiply_async(), commit_products(),
//                        wait_products<N>(), settle()
//     some threads       sync_threads()
//
// A warpgroup is four warps, the first of which has a number that is a multiple of 4. What is
// written here of tensor cores is called by all of its threads.
//
// A Barrier is in shared memory and has phases: one ends when as many threads have arrived as
// init_barrier() said and all bytes that were expected have come. wait() with the parity of a phase
// (the first has 0) returns when that phase has ended: so, at the very first, with parity 1.

#include "cuda/vocabulary.hpp"

namespace kquant::cuda {

#if !defined(__CUDACC__) || defined(KQUANT_SM90A)
constexpr bool kBuiltForWarpgroups = true;
#else
constexpr bool kBuiltForWarpgroups = false;
#endif

struct alignas(8) Barrier {
  std::uint64_t bits;
};

/// What wgmma is told of an operand of rows of 64 halves in shared memory, 128 bytes each, 16-byte
/// piece i of row r at place i xor r % 8; `address` in shared memory, a multiple of 1024, plus 32
/// for each 16 columns. Fields: start / 16 (14 bits), at bit 32 the bytes from 8 rows to the next
/// / 16, at bit 62 the swizzle, 1 meaning 128 bytes; the one at bit 16 is not used with it.
KQ_HOST_DEVICE constexpr std::uint64_t describe_operand(std::uint32_t address) {
  return (address >> 4 & 0x3fffu) | std::uint64_t{1} << 16 | std::uint64_t{1024 >> 4} << 32 |
         std::uint64_t{1} << 62;
}
/// The descriptor of the 16 columns that begin `columns` further on.
KQ_HOST_DEVICE constexpr std::uint64_t advanced(std::uint64_t descriptor, int columns) {
  return descriptor + static_cast<std::uint64_t>(columns * 2 / 16);
}

}  // namespace kquant::cuda

#if defined(__CUDACC__)
#include "cuda/vocabulary/hopper_nvidia.cuh"
#else
#include "cuda/vocabulary/hopper_emulated.hpp"
#endif
