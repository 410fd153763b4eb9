#pragma once
// The vocabulary of kernels on the CPU. A block's threads are fibers of one CPU thread
// (emulator.cpp), which a barrier or a warp-wide function switches. It is made to be unkind where a
// GPU may be: shared memory begins as NaNs, threads take turns in an order that changes,
// asynchronous copies happen as late as they may (or as early: emulator::Settings), launches begin
// before the ones before them have, and a barrier that not all reach, a warp-wide function that not
// all lanes call and a thread that does not wait for previous launches end the program.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>

#include "cuda/vocabulary.hpp"

namespace kquant::cuda {

namespace emulator {

struct Settings {
  bool copies_early = false;  ///< asynchronous copies at once, not when they are waited for
  unsigned order = 1;         ///< seed of the order in which threads take turns
};
Settings& settings();

struct Thread {
  int thread = 0, threads = 0;
  Position block{}, grid{};
  std::byte* shared = nullptr;
};
const Thread& thread();

struct Grid {
  Launch size;
  std::function<void()> body;                        ///< of a thread
  std::size_t most_shared = std::size_t{227} << 10;  ///< bytes that a block may have
};
void run(const Grid& grid);
/// The first block of `second` begins, and gets as far as it can without the end of launches before
/// it; then all of `first` runs, and then the rest of `second`.
void run_overlapping(const Grid& first, const Grid& second);

void sync_block();
void wait_for_previous_launches();

/// Waits for all lanes of the warp; what each of them gave, lane after lane, until this lane's next
/// exchange.
inline constexpr std::size_t kMost = 64;
const std::byte* exchange(const void* mine, std::size_t bytes);
template <class T>
const T* exchange(const T& mine) {
  static_assert(sizeof(T) <= kMost);
  return reinterpret_cast<const T*>(exchange(&mine, sizeof mine));
}

void copy(void* to, const void* from);
void commit();
void wait(int groups_left);

float half_table(std::uint16_t bits);

/// Rounds once, not first to binary32 and then to binary16.
inline std::uint16_t round_to_half(double x) {
  float rounded = static_cast<float>(x);
  if (static_cast<double>(rounded) != x && std::isfinite(rounded)) {  // to odd
    auto bits = std::bit_cast<std::uint32_t>(rounded);
    if (bits % 2 == 0) bits += std::fabs(static_cast<double>(rounded)) < std::fabs(x) ? 1u : ~0u;
    rounded = std::bit_cast<float>(bits);
  }
  return to_half(rounded).bits;
}

template <class Fn>
Half2 of_each(Fn&& fn) {
  return {std::uint32_t{fn(0)} | std::uint32_t{fn(16)} << 16};
}
inline double part(Half2 h, int shift) {
  return half_table(static_cast<std::uint16_t>(h.bits >> shift));
}

}  // namespace emulator

inline int thread() {
  return emulator::thread().thread;
}
inline int lane() {
  return thread() % kWarp;
}
inline int warp() {
  return thread() / kWarp;
}
inline int threads() {
  return emulator::thread().threads;
}
inline Position block() {
  return emulator::thread().block;
}
inline Position grid() {
  return emulator::thread().grid;
}
inline std::byte* shared_memory() {
  return emulator::thread().shared;
}
inline void sync_block() {
  emulator::sync_block();
}
inline void sync_warp() {
  emulator::exchange(char{});
}
inline float shuffle_xor(float x, int mask) {
  return emulator::exchange(x)[lane() ^ mask];
}
inline bool any_of_warp(bool x) {
  const bool* all = emulator::exchange(x);
  return std::find(all, all + kWarp, true) != all + kWarp;
}

inline void copy_async(void* shared, const void* global) {
  emulator::copy(shared, global);
}
inline void commit_copies() {
  emulator::commit();
}
template <int N>
void wait_copies() {
  emulator::wait(N);
}
inline Words4 load16(const void* p) {
  Words4 v;
  std::memcpy(&v, __builtin_assume_aligned(p, 16), sizeof v);
  return v;
}
inline void store16(void* p, Words4 v) {
  std::memcpy(__builtin_assume_aligned(p, 16), &v, sizeof v);
}

inline Half2 sub(Half2 a, Half2 b) {
  return emulator::of_each(
      [&](int s) { return emulator::round_to_half(emulator::part(a, s) - emulator::part(b, s)); });
}
inline Half2 mul(Half2 a, Half2 b) {
  return emulator::of_each(
      [&](int s) { return emulator::round_to_half(emulator::part(a, s) * emulator::part(b, s)); });
}
inline Half2 fma(Half2 a, Half2 b, Half2 c) {
  return emulator::of_each([&](int s) {
    return emulator::round_to_half(emulator::part(a, s) * emulator::part(b, s) +
                                   emulator::part(c, s));
  });
}
inline Half2 low_twice(Half2 x) {
  return {twice(static_cast<std::uint16_t>(x.bits))};
}
inline Half2 high_twice(Half2 x) {
  return {twice(static_cast<std::uint16_t>(x.bits >> 16))};
}
inline Half2 to_half2(float low, float high) {
  return {std::uint32_t{to_half(low).bits} | std::uint32_t{to_half(high).bits} << 16};
}
inline std::uint32_t to_bfloat2(float low, float high) {
  return std::uint32_t{to_bfloat16(low).bits} | std::uint32_t{to_bfloat16(high).bits} << 16;
}
inline float half_value(std::uint16_t bits) {
  return to_float(Half{bits});
}
inline std::uint16_t half_bits(float x) {
  return to_half(x).bits;
}
inline std::uint32_t permute_bytes(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
  const std::uint64_t all = std::uint64_t{b} << 32 | a;
  std::uint32_t out = 0;
  for (int i = 0; i < 4; ++i)
    out |= static_cast<std::uint32_t>(all >> (8 * ((selector >> (4 * i)) & 7)) & 0xff) << (8 * i);
  return out;
}
inline std::uint32_t select_bits(std::uint32_t mask, std::uint32_t a, std::uint32_t b) {
  return (mask & a) | (~mask & b);
}
inline float exp2_fast(float x) {
  return std::exp2(x);
}
inline float reciprocal_fast(float x) {
  return 1.0f / x;
}
inline float tanh_fast(float x) {
  return std::tanh(x);
}

inline void mma(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  struct Operands {
    std::uint32_t a[4], b[2];
  };
  const Operands* all = emulator::exchange(Operands{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  const int g = lane() / 4, t = lane() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row_half = i / 2, column = 2 * t + i % 2;
    double sum = 0;
    for (int k = 0; k < 16; ++k) {
      const int holder = k % 8 / 2, word = k / 8, shift = 16 * (k % 2);
      sum += emulator::part({all[4 * g + holder].a[2 * word + row_half]}, shift) *
             emulator::part({all[4 * column + holder].b[word]}, shift);
    }
    c[i] += static_cast<float>(sum);
  }
}
inline Words4 load_transposed(const void* row) {
  const void* const* rows = emulator::exchange(row);
  const int g = lane() / 4, t = lane() % 4;
  Words4 v{};
  for (int matrix = 0; matrix < 4; ++matrix)
    for (int i = 0; i < 2; ++i) {
      std::uint16_t element;
      std::memcpy(&element, static_cast<const std::byte*>(rows[8 * matrix + 2 * t + i]) + 2 * g, 2);
      v.at[matrix] |= std::uint32_t{element} << (16 * i);
    }
  sync_warp();  // the words are read here, not when the next function is called
  return v;
}
inline void add_to(float* p, float x) {
  *p += x;
}
inline unsigned take_ticket(unsigned* counter) {
  return (*counter)++;
}
inline void wait_for_previous_launches() {
  emulator::wait_for_previous_launches();
}

}  // namespace kquant::cuda
