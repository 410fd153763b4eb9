// Runs kernels on the CPU: a block is a ring of fibers. ucontext makes them; after that _setjmp and
// _longjmp switch, which unlike swapcontext need no system call.
#include <ucontext.h>
#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "cuda/vocabulary/emulated.hpp"

namespace kquant::cuda::emulator {
namespace {

constexpr std::size_t kStack = std::size_t{128} << 10;
constexpr std::size_t kMostShared = std::size_t{227} << 10;

struct Copy {
  void* to;
  const void* from;
  bool there;
};

struct Fiber {
  ucontext_t context{};
  jmp_buf here{};
  std::unique_ptr<std::byte[]> stack;
  bool begun = false, done = true;
  const unsigned* waits_for = nullptr;  ///< a count of barriers, until it is no longer `seen`
  unsigned seen = 0;
  Thread thread;
  std::deque<std::vector<Copy>> groups;  ///< of copies committed
  std::vector<Copy> open;
};

struct Warp {
  int arrived = 0;
  unsigned barriers = 0;
  alignas(16) std::byte given[2][kWarp * kMost];
};

struct Machine {
  std::deque<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<Words4> shared;
  std::vector<int> order;
  int threads = 0, arrived = 0, left = 0;
  unsigned barriers = 0;
  Fiber* current = nullptr;
  const std::function<void()>* body = nullptr;
  jmp_buf scheduler{};
};

Machine& machine() {
  static thread_local Machine m;
  return m;
}

[[noreturn]] void give_up(const char* what) {
  const Thread& t = thread();
  std::fprintf(stderr, "emulated GPU: block (%d, %d, %d), thread %d: %s\n", t.block.x, t.block.y,
               t.block.z, t.thread, what);
  std::abort();
}

void yield() {
  Machine& m = machine();
  if (_setjmp(m.current->here) == 0) _longjmp(m.scheduler, 1);
}

void wait_until_changed(const unsigned& count, unsigned seen) {
  Fiber& fiber = *machine().current;
  fiber.waits_for = &count;
  fiber.seen = seen;
  yield();
  fiber.waits_for = nullptr;
}

void enter() {
  for (;;) {
    Machine& m = machine();
    (*m.body)();
    Fiber& fiber = *machine().current;
    fiber.done = true;
    --machine().left;
    yield();
  }
}

__attribute__((noinline)) void resume(Fiber& fiber) {
  Machine& m = machine();
  m.current = &fiber;
  if (_setjmp(m.scheduler) != 0) return;
  if (fiber.begun) _longjmp(fiber.here, 1);
  fiber.begun = true;
  setcontext(&fiber.context);
}

void prepare(const Launch& launch) {
  Machine& m = machine();
  if (launch.threads % kWarp != 0 || launch.threads > 1024 || launch.shared > kMostShared) {
    std::fprintf(stderr, "emulated GPU: a launch of %d threads and %zu bytes of shared memory\n",
                 launch.threads, launch.shared);
    std::abort();
  }
  while (m.fibers.size() < static_cast<std::size_t>(launch.threads)) {
    Fiber& fiber = m.fibers.emplace_back();
    fiber.stack = std::make_unique_for_overwrite<std::byte[]>(kStack);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    makecontext(&fiber.context, enter, 0);
  }
  m.threads = launch.threads;
  m.warps.resize(static_cast<std::size_t>(launch.threads) / kWarp);
  m.shared.resize((launch.shared + 15) / 16);
  m.order.resize(static_cast<std::size_t>(launch.threads));
  std::iota(m.order.begin(), m.order.end(), 0);
}

void run_block(Position block, Position grid) {
  Machine& m = machine();
  std::fill(m.shared.begin(), m.shared.end(), Words4{{~0u, ~0u, ~0u, ~0u}});
  for (Warp& warp : m.warps) warp.arrived = 0;
  m.arrived = 0;
  m.left = m.threads;
  for (int i = 0; i < m.threads; ++i) {
    Fiber& fiber = m.fibers[static_cast<std::size_t>(i)];
    fiber.done = false;
    fiber.waits_for = nullptr;
    fiber.groups.clear();
    fiber.open.clear();
    fiber.thread = {i, m.threads, block, grid, reinterpret_cast<std::byte*>(m.shared.data())};
  }
  std::minstd_rand random(settings().order);
  while (m.left > 0) {
    bool moved = false;
    std::shuffle(m.order.begin(), m.order.end(), random);
    for (const int i : m.order) {
      Fiber& fiber = m.fibers[static_cast<std::size_t>(i)];
      if (fiber.done || (fiber.waits_for && *fiber.waits_for == fiber.seen)) continue;
      moved = true;
      resume(fiber);
    }
    if (!moved) give_up("a barrier or a warp-wide function that not all threads reach");
  }
}

}  // namespace

Settings& settings() {
  static Settings s;
  return s;
}

const Thread& thread() {
  return machine().current->thread;
}

void run(const Launch& launch, const std::function<void()>& body) {
  prepare(launch);
  machine().body = &body;
  for (int z = 0; z < launch.z; ++z)
    for (int y = 0; y < launch.y; ++y)
      for (int x = 0; x < launch.x; ++x) run_block({x, y, z}, {launch.x, launch.y, launch.z});
}

void sync_block() {
  Machine& m = machine();
  const unsigned seen = m.barriers;
  if (++m.arrived == m.threads) {
    m.arrived = 0;
    ++m.barriers;
  } else {
    wait_until_changed(m.barriers, seen);
  }
}

const std::byte* exchange(const void* mine, std::size_t bytes) {
  Machine& m = machine();
  const auto index = static_cast<std::size_t>(thread().thread);
  Warp& warp = m.warps[index / kWarp];
  const unsigned seen = warp.barriers;
  std::byte* given = warp.given[seen % 2];
  std::memcpy(given + index % kWarp * bytes, mine, bytes);
  if (++warp.arrived == kWarp) {
    warp.arrived = 0;
    ++warp.barriers;
  } else {
    wait_until_changed(warp.barriers, seen);
  }
  return given;
}

namespace {
void carry_out(const Copy& copy) {
  if (copy.there)
    store16(copy.to, load16(copy.from));
  else
    store16(copy.to, Words4{});
}
}  // namespace

void copy(void* to, const void* from, bool there) {
  const Machine& m = machine();
  const auto* at = static_cast<const std::byte*>(to);
  const std::byte* shared = m.current->thread.shared;
  if (at < shared || at + 16 > shared + m.shared.size() * 16)
    give_up("an asynchronous copy past the shared memory");
  if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0 ||
      (there && reinterpret_cast<std::uintptr_t>(from) % 16 != 0))
    give_up("a misaligned asynchronous copy");
  if (settings().copies_early)
    carry_out({to, from, there});
  else
    m.current->open.push_back({to, from, there});
}

void commit() {
  Fiber& fiber = *machine().current;
  fiber.groups.push_back(std::move(fiber.open));
  fiber.open.clear();
}

void wait(int groups_left) {
  auto& groups = machine().current->groups;
  while (groups.size() > static_cast<std::size_t>(groups_left)) {
    for (const Copy& copy : groups.front()) carry_out(copy);
    groups.pop_front();
  }
}

float half_table(std::uint16_t bits) {
  static const auto table = [] {
    std::vector<float> t(65536);
    for (std::uint32_t i = 0; i < t.size(); ++i)
      t[i] = to_float(Half{static_cast<std::uint16_t>(i)});
    return t;
  }();
  return table[bits];
}

}  // namespace kquant::cuda::emulator
