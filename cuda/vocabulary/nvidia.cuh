#pragma once
// The vocabulary of kernels on a GPU (sm_80 on). PTX by hand: cuda_fp16.h alone would take longer
// to compile than most kernels.

#include "cuda/vocabulary.hpp"

namespace kquant::cuda {

KQ_DEVICE int thread() {
  return static_cast<int>(threadIdx.x);
}
KQ_DEVICE int lane() {
  return thread() % kWarp;
}
KQ_DEVICE int warp() {
  return thread() / kWarp;
}
KQ_DEVICE int threads() {
  return static_cast<int>(blockDim.x);
}
KQ_DEVICE Position block() {
  return {static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.z)};
}
KQ_DEVICE Position grid() {
  return {static_cast<int>(gridDim.x), static_cast<int>(gridDim.y), static_cast<int>(gridDim.z)};
}
KQ_DEVICE std::byte* shared_memory() {
  extern __shared__ __align__(1024) Words4 kquant_shared[];
  return reinterpret_cast<std::byte*>(kquant_shared);
}

KQ_DEVICE void sync_block() {
  __syncthreads();
}
KQ_DEVICE void sync_warp() {
  __syncwarp();
}
KQ_DEVICE float shuffle_xor(float x, int mask) {
  return __shfl_xor_sync(0xffffffffu, x, mask);
}
KQ_DEVICE bool any_of_warp(bool x) {
  return __any_sync(0xffffffffu, x);
}

KQ_DEVICE std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

/// 16 bytes from device to shared memory, past L1.
KQ_DEVICE void copy_async(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
               "l"(global)
               : "memory");
}
/// Closes a group of this thread's copies.
KQ_DEVICE void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits for all groups of this thread but the latest N.
template <int N>
KQ_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

KQ_DEVICE Words4 load16(const void* p) {
  const uint4 v = *static_cast<const uint4*>(p);
  return {{v.x, v.y, v.z, v.w}};
}
KQ_DEVICE void store16(void* p, Words4 v) {
  *static_cast<uint4*>(p) = make_uint4(v.at[0], v.at[1], v.at[2], v.at[3]);
}

KQ_DEVICE Half2 sub(Half2 a, Half2 b) {
  Half2 c;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(c.bits) : "r"(a.bits), "r"(b.bits));
  return c;
}
KQ_DEVICE Half2 mul(Half2 a, Half2 b) {
  Half2 c;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(c.bits) : "r"(a.bits), "r"(b.bits));
  return c;
}
/// a * b + c, rounded once.
KQ_DEVICE Half2 fma(Half2 a, Half2 b, Half2 c) {
  Half2 d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d.bits) : "r"(a.bits), "r"(b.bits), "r"(c.bits));
  return d;
}
/// One half in both, which the compiler makes part of the instruction that takes it.
KQ_DEVICE Half2 low_twice(Half2 x) {
  Half2 y;
  asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {l, l};}" : "=r"(y.bits) : "r"(x.bits));
  return y;
}
KQ_DEVICE Half2 high_twice(Half2 x) {
  Half2 y;
  asm("{.reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {h, h};}" : "=r"(y.bits) : "r"(x.bits));
  return y;
}
KQ_DEVICE Half2 to_half2(float low, float high) {
  Half2 h;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(h.bits) : "f"(high), "f"(low));
  return h;
}
KQ_DEVICE std::uint32_t to_bfloat2(float low, float high) {
  std::uint32_t b;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(b) : "f"(high), "f"(low));
  return b;
}
KQ_DEVICE float half_value(std::uint16_t bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
KQ_DEVICE std::uint16_t half_bits(float x) {
  std::uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
/// Bytes of the eight in b:a, one a nibble of `selector`.
KQ_DEVICE std::uint32_t permute_bytes(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
  return __byte_perm(a, b, selector);
}
/// Bits of a where `mask` has ones, of b elsewhere.
KQ_DEVICE std::uint32_t select_bits(std::uint32_t mask, std::uint32_t a, std::uint32_t b) {
  std::uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xca;" : "=r"(d) : "r"(mask), "r"(a), "r"(b));
  return d;
}
KQ_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
KQ_DEVICE float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
KQ_DEVICE float tanh_fast(float x) {
  // 1 - 2 / (1 + e^2x): tanh.approx has an error of 2^-11, which soft caps of 50 would show.
  return fmaf(-2.0f, reciprocal_fast(1.0f + exp2_fast(2.88539008f * x)), 1.0f);
}

/// c += a b of 16 x 16 and 16 x 8 (fragment.hpp has who holds what).
KQ_DEVICE void mma(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, "
      "%9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// Four 8 x 8 matrices of halves, whose rows lanes 8i … 8i + 7 point at (in shared memory), each
/// transposed: word i of lane 4g + t holds elements (2t, g) and (2t + 1, g) of matrix i.
KQ_DEVICE Words4 load_transposed(const void* row) {
  Words4 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.at[0]), "=r"(v.at[1]), "=r"(v.at[2]), "=r"(v.at[3])
               : "r"(shared_address(row))
               : "memory");
  return v;
}

/// *p += x without waiting for what p has; nobody else may write it meanwhile.
KQ_DEVICE void add_to(float* p, float x) {
  asm volatile("red.global.add.f32 [%0], %1;" ::"l"(p), "f"(x) : "memory");
}

/// How many took one before. Between two barriers of a block, for one of its threads: what all of
/// them wrote before is seen, after the second barrier, by the block of whoever takes a later one.
KQ_DEVICE unsigned take_ticket(unsigned* counter) {
  __threadfence();
  const unsigned before = atomicAdd(counter, 1u);
  __threadfence();
  return before;
}

/// Until all launches before this one have ended and what they wrote is seen; the next one may
/// begin as soon as all blocks of this one are here. The compiler moves no access to memory across
/// it.
KQ_DEVICE void wait_for_previous_launches() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace kquant::cuda
