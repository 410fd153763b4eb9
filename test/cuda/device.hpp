#pragma once
// The device that tests run on: a GPU, or an emulated one.

#include <catch2/catch.hpp>
#include <optional>

#include "kquant/cuda.hpp"

namespace kquant::test {

/// Whether the CPU emulates devices, which takes long.
bool emulated();

/// Nothing where there is no GPU: the test has then said "SKIPPED:".
std::optional<cuda::Device> device();
/// One with wgmma (compute capability 9.0); likewise.
std::optional<cuda::Device> hopper();
/// One whose blocks have no more than 99 KB of shared memory (8.6, 8.9, 12.0); likewise.
std::optional<cuda::Device> little_shared_memory();

/// One that divides models among so many devices; null where there are not as many, or no NCCL: the
/// test has then said "SKIPPED:". It is not device()->accelerator() for one.
std::shared_ptr<Accelerator> tensor_parallel(int devices);

/// fn() under each of several orders in which an emulated device may do things; once on a GPU.
template <class Fn>
void in_every_order(Fn&& fn);

/// How many there are, and uses the i-th from now on.
int orders();
void use_order(int i);

template <class Fn>
void in_every_order(Fn&& fn) {
  for (int i = 0; i < orders(); ++i) {
    INFO("order " << i);
    use_order(i);
    fn();
  }
  use_order(0);
}

}  // namespace kquant::test
