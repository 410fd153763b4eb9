// Runs kernels on the CPU: a block is a ring of fibers. ucontext makes them; after that _setjmp and
// _longjmp switch, which unlike swapcontext need no system call.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "cuda/vocabulary/machine.hpp"

namespace kquant::cuda::emulator {

namespace {
/// The second one is for a launch that begins before the one before it has ended.
thread_local Machine machines[2];
thread_local Machine* in_use = &machines[0];
}  // namespace

Machine& machine() {
  return *in_use;
}

void give_up(const char* what) {
  const Thread& t = thread();
  std::fprintf(stderr, "emulated GPU: block (%d, %d, %d), thread %d: %s\n", t.block.x, t.block.y,
               t.block.z, t.thread, what);
  std::abort();
}

static void yield() {
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

namespace {

constexpr std::size_t kStack = std::size_t{128} << 10;

void enter() {
  for (;;) {
    Machine& m = machine();
    (*m.body)();
    check_end_of_thread();
    if (m.previous_done == 0) give_up("a thread ends that did not wait for previous launches");
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

void prepare(const Grid& grid) {
  Machine& m = machine();
  const Launch& launch = grid.size;
  m.body = &grid.body;
  if (launch.threads % kWarp != 0 || launch.threads > 1024 || launch.shared > grid.most_shared) {
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
  m.warpgroups.resize((m.warps.size() + 3) / 4);
  m.shared.resize((launch.shared + 15) / 16);
  m.order.resize(static_cast<std::size_t>(launch.threads));
  std::iota(m.order.begin(), m.order.end(), 0);
}

void begin_block(Position block, const Launch& launch) {
  Machine& m = machine();
  std::fill(m.shared.begin(), m.shared.end(), Words4{{~0u, ~0u, ~0u, ~0u}});
  for (Warp& warp : m.warps) warp.arrived = 0;
  for (Meeting& group : m.warpgroups) group.arrived = 0;
  m.named.clear();
  m.barrier_states.clear();
  m.arrived = 0;
  m.left = m.threads;
  for (int i = 0; i < m.threads; ++i) {
    Fiber& fiber = m.fibers[static_cast<std::size_t>(i)];
    fiber.done = false;
    fiber.waits_for = nullptr;
    fiber.groups.clear();
    fiber.open.clear();
    fiber.operands_fenced = false;
    fiber.thread = {i,
                    m.threads,
                    block,
                    {launch.x, launch.y, launch.z},
                    reinterpret_cast<std::byte*>(m.shared.data())};
  }
  m.random.seed(settings().order);
}

/// Lets threads run until all have ended, or none can go on.
void advance_block() {
  Machine& m = machine();
  // Copies of the copy engine come when nobody can go on without them, or, by every third seed, at
  // any time.
  const bool any_time = settings().order % 3 == 0;
  while (m.left > 0) {
    bool moved = false;
    std::shuffle(m.order.begin(), m.order.end(), m.random);
    for (const int i : m.order) {
      Fiber& fiber = m.fibers[static_cast<std::size_t>(i)];
      if (fiber.done || (fiber.waits_for && *fiber.waits_for == fiber.seen)) continue;
      moved = true;
      resume(fiber);
    }
    if (any_time && m.random() % 4 == 0) bulk_copy_comes();
    if (!moved && !bulk_copy_comes()) return;
  }
}

void end_block() {
  advance_block();
  if (machine().left > 0) give_up("a barrier or a warp-wide function that not all threads reach");
  check_end_of_block();
}

/// Blocks from the `first` one on.
void run_blocks(const Launch& launch, int first) {
  for (int i = first; i < launch.x * launch.y * launch.z; ++i) {
    begin_block({i % launch.x, i / launch.x % launch.y, i / launch.x / launch.y}, launch);
    end_block();
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

void run(const Grid& grid) {
  prepare(grid);
  run_blocks(grid.size, 0);
}

void run_overlapping(const Grid& first, const Grid& second) {
  in_use = &machines[1];
  prepare(second);
  machine().previous_done = 0;
  begin_block({0, 0, 0}, second.size);
  advance_block();
  in_use = &machines[0];
  run(first);
  in_use = &machines[1];
  machine().previous_done = 1;
  end_block();
  run_blocks(second.size, 1);
  in_use = &machines[0];
}

void wait_for_previous_launches() {
  Machine& m = machine();
  if (m.previous_done == 0) wait_until_changed(m.previous_done, 0);
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
  store16(copy.to, load16(copy.from));
}
}  // namespace

bool in_shared(const void* p, std::size_t bytes) {
  const Machine& m = machine();
  const auto* at = static_cast<const std::byte*>(p);
  const std::byte* shared = m.current->thread.shared;
  return at >= shared && at + bytes <= shared + m.shared.size() * 16;
}

void copy(void* to, const void* from) {
  if (!in_shared(to, 16)) give_up("an asynchronous copy past the shared memory");
  if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0 ||
      reinterpret_cast<std::uintptr_t>(from) % 16 != 0)
    give_up("a misaligned asynchronous copy");
  if (settings().copies_early)
    carry_out({to, from});
  else
    machine().current->open.push_back({to, from});
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
