// The emulated GPU ends the program where a kernel of asynchronous copies and products is wrong:
// each mistake is made in a process of its own, and what that says is read.
#include "cuda/hopper.hpp"

#include <catch2/catch.hpp>
#include <string>

#include "cuda/half_rows.hpp"
#include "said_by.hpp"

using namespace kquant;
using namespace kquant::cuda;

namespace {

constexpr int kThreads = 4 * kWarp;
constexpr int kTileBytes = kTileTokens * kTileColumns * 2;

/// What a tile of X = 1 is multiplied with, and where mistakes may be made.
struct Mistakes {
  bool no_publishing = false, no_expecting = false, no_waiting = false, no_fence = false;
  bool write_operand = false, write_sums = false, read_early = false, copy_too_early = false;
  bool odd_descriptor = false, half_a_group = false, leave_products = false, leave_copy = false;
};

/// 64 x 128 sums of 16 ones; true where they are right.
bool multiply_ones(const Mistakes& wrong, bool early, unsigned order) {
  emulator::settings() = {.copies_early = early, .order = order};
  alignas(16) static std::uint16_t x[kTileTokens * kTileColumns];
  for (auto& h : x) h = 0x3c00;
  bool right = true;
  const auto kernel = [&] {
    std::byte* const tile = shared_memory();
    auto* const full = reinterpret_cast<Barrier*>(tile + kTileBytes);
    if (thread() == 0) {
      init_barrier(full, 1);
      if (!wrong.no_publishing) publish_barriers();
    }
    sync_block();
    const auto bring = [&] {
      if (wrong.no_expecting)
        arrive(full);
      else
        expect_bytes(full, kTileBytes);
      copy_bulk(tile, x, kTileBytes, full);
    };
    if (thread() == 0) bring();
    if (!wrong.no_waiting) wait(full, 0);
    if (wrong.half_a_group && warp() == 3) return;
    float sum[64] = {};
    std::uint32_t a[4];
    for (auto& word : a) word = 0x3c003c00;
    if (!wrong.no_fence) fence_operands();
    std::uint64_t operand = operand_rows(tile);
    if (wrong.odd_descriptor) operand ^= 1ull << 62 | 1ull << 63;
    multiply_async(sum, a, operand);
    commit_products();
    if (wrong.write_operand) a[1] = 0;
    if (wrong.write_sums) sum[7] = 0;
    if (wrong.copy_too_early && thread() == 0) bring();
    if (wrong.leave_copy && thread() == 0) bring();
    if (wrong.leave_products) return;
    if (!wrong.read_early) wait_products<0>();
    for (const float s : sum) right = right && s == 16.0f;
    wait_products<0>();
    settle(sum);
    if (wrong.copy_too_early) wait(full, 1);
  };
  emulator::run({{.threads = kThreads, .shared = kTileBytes + 64}, kernel});
  emulator::settings() = {};
  return right;
}

void check(const Mistakes& wrong, bool early, const std::string& expected) {
  const std::string text = test::said_by([&] { return multiply_ones(wrong, early, 1); });
  INFO(text);
  REQUIRE(text.find(expected) != std::string::npos);
}

}  // namespace

TEST_CASE("emulated warpgroups multiply, in every order") {
  for (const bool early : {false, true})
    for (const unsigned order : {1u, 2u, 3u, 6u})
      REQUIRE(test::said_by([&] { return multiply_ones({}, early, order); }) == "right");
}

TEST_CASE("emulated warpgroups notice what a GPU would leave undefined") {
  check({.no_publishing = true}, false, "not made known");
  check({.no_expecting = true}, true, "no barrier expects");
  check({.no_waiting = true}, false, "ends before copies");  // they would have come with the wait
  check({.no_fence = true}, false, "without fence_operands");
  check({.odd_descriptor = true}, false, "128-byte swizzle");
  check({.write_operand = true}, false, "registers of an operand were written");
  check({.write_sums = true}, false, "sums were written");
  check({.half_a_group = true}, false, "not all threads reach");
  check({.leave_products = true}, false, "ends before its products");
  check({.leave_copy = true}, false, "ends before copies");
}

TEST_CASE("emulated warpgroups give wrong results where one may be wrong on a GPU") {
  check({.read_early = true}, false, "wrong");
  check({.copy_too_early = true}, false, "wrong");
}
