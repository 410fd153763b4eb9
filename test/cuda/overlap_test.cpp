// Launches that begin before the ones before them have ended, on the emulated GPU.
#include <catch2/catch.hpp>
#include <numeric>
#include <vector>

#include "cuda/runtime.hpp"
#include "device.hpp"
#include "said_by.hpp"

using namespace kquant;
using namespace kquant::cuda;

namespace {

constexpr int kBlocks = 3;
constexpr std::size_t kNumbers = kBlocks * kWarp;

struct Sum {
  const int* from;
  int* to;
  bool waits = true, waits_late = false;
};
/// to[i] = 1 + from[i]
void add_one(Sum a) {
  const auto i = static_cast<std::size_t>(block().x * kWarp + thread());
  int value = a.waits_late ? a.from[i] : 0;
  if (a.waits) wait_for_previous_launches();
  if (!a.waits_late) value = a.from[i];
  a.to[i] = value + 1;
}
/// add_one of `first`, and then, overlapping, of `second`.
void add_twice(Sum first, Sum second) {
  emulator::run_overlapping({{.x = kBlocks}, [=] { add_one(first); }},
                            {{.x = kBlocks}, [=] { add_one(second); }});
}

}  // namespace

TEST_CASE("a launch that waits sees what the one before it wrote") {
  std::vector<int> a(kNumbers, 1), b(kNumbers), c(kNumbers);
  add_twice({a.data(), b.data()}, {b.data(), c.data()});
  REQUIRE(c == std::vector<int>(kNumbers, 3));
  // and leaves alone what that one still reads
  add_twice({a.data(), b.data()}, {c.data(), a.data()});
  REQUIRE(b == std::vector<int>(kNumbers, 2));
  REQUIRE(a == std::vector<int>(kNumbers, 4));
}

TEST_CASE("a launch that reads before it waits sees what was there before") {
  std::vector<int> a(kNumbers, 1), b(kNumbers), c(kNumbers);
  add_twice({a.data(), b.data()}, {.from = b.data(), .to = c.data(), .waits_late = true});
  REQUIRE(c.front() == 1);
  REQUIRE(c.back() == 3);  // only the first block begins early
}

TEST_CASE("a launch that does not wait ends the program") {
  std::vector<int> a(kNumbers, 1), b(kNumbers), c(kNumbers);
  const std::string text = test::said_by([&] {
    add_twice({a.data(), b.data()}, {.from = b.data(), .to = c.data(), .waits = false});
    return true;
  });
  INFO(text);
  REQUIRE(text.find("did not wait for previous launches") != std::string::npos);
}

TEST_CASE("launches of a queue overlap, recorded ones too, and nothing else does") {
  const auto device = test::device();
  Queue& queue = *device->queue();
  constexpr int kRounds = 20;
  auto buffer = Buffer::allocate(device->queue(), kNumbers * sizeof(int), "numbers").value();
  std::vector<int> numbers(kNumbers), expected(kNumbers);
  std::iota(numbers.begin(), numbers.end(), 0);
  std::iota(expected.begin(), expected.end(), 3 * kRounds);
  const auto add = [&] {
    for (int i = 0; i < kRounds; ++i)
      queue.launch({.x = kBlocks}, add_one, Sum{buffer.as<int>(), buffer.as<int>()});
  };
  queue.copy_to_device(buffer.as<>(), numbers.data(), buffer.bytes());
  queue.begin_recording();
  add();
  const auto recording = queue.end_recording().value();
  add();
  queue.replay(*recording);
  queue.replay(*recording);
  queue.copy_to_host(numbers.data(), buffer.as<>(), buffer.bytes());
  REQUIRE(queue.finish());
  REQUIRE(numbers == expected);
}
