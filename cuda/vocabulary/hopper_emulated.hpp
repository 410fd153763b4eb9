#pragma once
// The vocabulary of sm_90a on the CPU (hopper_emulator.cpp): as unkind as the rest of it. The copy
// engine's bytes come when nobody can go on without them, at once or in between, in any order;
// their place is full of NaNs until then. wgmma reads its operands when it is waited for, or as it
// begins, and its sums are NaNs meanwhile. What a GPU would leave undefined ends the program.

#include "cuda/hopper.hpp"

namespace kquant::cuda {

inline constexpr bool kHasWarpgroups = true;

namespace emulator {
void init_barrier(Barrier* barrier, int arrivals);
void publish_barriers();
void arrive(Barrier* barrier, long long bytes);
void wait(const Barrier* barrier, unsigned parity);
void copy_bulk(void* shared, const void* global, int bytes, Barrier* barrier);
std::uint32_t shared_address(const void* shared);
void fence_operands();
void multiply_async(float* sum, const std::uint32_t* a, std::uint64_t descriptor);
void commit_products();
void wait_products(int groups_left);
void settle(float* sum);
void sync_threads(int name, int count);
void set_registers(int registers);
}  // namespace emulator

inline void init_barrier(Barrier* barrier, int arrivals) {
  emulator::init_barrier(barrier, arrivals);
}
inline void publish_barriers() {
  emulator::publish_barriers();
}
inline void arrive(Barrier* barrier) {
  emulator::arrive(barrier, 0);
}
inline void expect_bytes(Barrier* barrier, int bytes) {
  emulator::arrive(barrier, bytes);
}
inline void wait(Barrier* barrier, unsigned parity) {
  emulator::wait(barrier, parity);
}
inline void copy_bulk(void* shared, const void* global, int bytes, Barrier* barrier) {
  emulator::copy_bulk(shared, global, bytes, barrier);
}
inline std::uint64_t operand_rows(const void* shared) {
  return describe_operand(emulator::shared_address(shared));
}
inline void fence_operands() {
  emulator::fence_operands();
}
inline void multiply_async(float (&sum)[64], const std::uint32_t (&a)[4],
                           std::uint64_t descriptor) {
  emulator::multiply_async(sum, a, descriptor);
}
inline void commit_products() {
  emulator::commit_products();
}
template <int N>
void wait_products() {
  emulator::wait_products(N);
}
inline void settle(float (&sum)[64]) {
  emulator::settle(sum);
}
inline void sync_threads(int name, int count) {
  emulator::sync_threads(name, count);
}
template <int kRegisters>
void give_back_registers() {
  emulator::set_registers(kRegisters);
}
template <int kRegisters>
void take_registers() {
  emulator::set_registers(kRegisters);
}

}  // namespace kquant::cuda
