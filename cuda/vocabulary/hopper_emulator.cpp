// What only compute capability 9.0 has, emulated: barriers with phases, the copy engine, wgmma.
#include <algorithm>
#include <array>
#include <cstring>

#include "cuda/vocabulary/machine.hpp"

namespace kquant::cuda::emulator {
namespace {

constexpr int kGroup = 4 * kWarp;
/// Dynamic shared memory begins behind what the system keeps for itself.
constexpr std::uint32_t kSharedBegins = 1024;
constexpr std::uint32_t kInFlight = 0x7fc0dead;  ///< a NaN
constexpr std::uint64_t kBarrierMark = 0x6272617272696572;

/// Waits for `count` threads; all must have brought the same value.
void meet(Meeting& meeting, int count, std::uint64_t value, const char* different) {
  if (meeting.arrived == 0) meeting.value = value;
  if (meeting.value != value) give_up(different);
  const unsigned seen = meeting.meetings;
  if (++meeting.arrived == count) {
    meeting.arrived = 0;
    ++meeting.meetings;
  } else {
    wait_until_changed(meeting.meetings, seen);
  }
}

void meet_warpgroup(std::uint64_t value) {
  Machine& m = machine();
  const auto group = static_cast<std::size_t>(thread().thread / kGroup);
  if ((group + 1) * kGroup > static_cast<std::size_t>(m.threads))
    give_up("a warpgroup's function in a warp that belongs to none");
  meet(m.warpgroups[group], kGroup, value, "warps of a warpgroup do different things");
}

BarrierState& state_of(const Barrier* barrier) {
  Machine& m = machine();
  const auto it = m.barrier_states.find(barrier);
  if (it == m.barrier_states.end()) give_up("a barrier that was not initialised");
  BarrierState& state = it->second;
  if (barrier->bits != kBarrierMark) give_up("a barrier whose memory was written over");
  if (state.maker != thread().thread && (state.published == ~0u || m.barriers == state.published))
    give_up("a barrier that was not made known before it is used");
  return state;
}

void end_phase_if_complete(BarrierState& state) {
  if (state.pending > 0 || state.bytes != 0) return;
  state.pending = state.arrivals;
  ++state.phase;
}

void carry_out(const BulkCopy& copy) {
  BarrierState& state = machine().barrier_states.at(copy.barrier);
  if (state.bytes < copy.bytes) give_up("a copy brings bytes that no barrier expects");
  std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.bytes));
  state.bytes -= copy.bytes;
  end_phase_if_complete(state);
}

/// Where element (row, k) of an operand lies.
struct Operand {
  std::uint32_t start, stride;
  explicit Operand(std::uint64_t descriptor) {
    const auto field = [&](int at) {
      return static_cast<std::uint32_t>(descriptor >> at & 0x3fff) << 4;
    };
    start = field(0);
    stride = field(32);
    constexpr std::uint64_t kKnown = 0x3fff | 0x3fffull << 16 | 0x3fffull << 32 | 3ull << 62;
    if (descriptor >> 62 != 1 || (descriptor & ~kKnown) != 0)
      give_up("an operand's descriptor that is not of a 128-byte swizzle");
  }
  float at(int row, int k) const {
    std::uint32_t byte = start + static_cast<std::uint32_t>(row / 8) * stride +
                         static_cast<std::uint32_t>(row % 8 * 128 + k * 2);
    byte ^= (byte >> 7 & 7) << 4;
    const std::byte* p = thread().shared + byte - kSharedBegins;
    if (byte < kSharedBegins || !in_shared(p, 2))
      give_up("an operand of a product past the shared memory");
    std::uint16_t bits;
    std::memcpy(&bits, p, 2);
    return half_table(bits);
  }
};

/// This lane's part of a product: 2 rows x 32 columns.
void multiply(AsyncProduct& product) {
  struct Words {
    std::uint32_t a[4];
  };
  Words mine;
  std::memcpy(mine.a, product.a, sizeof mine.a);
  const Words* all = exchange(mine);
  const int g = lane() / 4, t = lane() % 4;
  double a[2][16];
  for (int half = 0; half < 2; ++half)
    for (int k = 0; k < 16; ++k)
      a[half][k] = part({all[4 * g + k % 8 / 2].a[2 * (k / 8) + half]}, 16 * (k % 2));
  const Operand b(product.descriptor);
  float* value = machine().current->sums.at(product.sum).value;
  for (int j = 0; j < 16; ++j)
    for (int e = 0; e < 2; ++e) {
      double sums[2] = {};
      for (int k = 0; k < 16; ++k) {
        const double x = b.at(8 * j + 2 * t + e, k);
        sums[0] += a[0][k] * x;
        sums[1] += a[1][k] * x;
      }
      value[4 * j + e] += static_cast<float>(sums[0]);
      value[4 * j + 2 + e] += static_cast<float>(sums[1]);
    }
  product.done = true;
}

bool is_poisoned(const float* sum) {
  return std::all_of(sum, sum + 64,
                     [](float x) { return std::bit_cast<std::uint32_t>(x) == kInFlight; });
}

}  // namespace

void init_barrier(Barrier* barrier, int arrivals) {
  if (!in_shared(barrier, sizeof *barrier)) give_up("a barrier that is not in shared memory");
  barrier->bits = kBarrierMark;
  machine().barrier_states[barrier] = {
      .arrivals = arrivals, .pending = arrivals, .maker = thread().thread};
}

void publish_barriers() {
  for (auto& [barrier, state] : machine().barrier_states)
    if (state.maker == thread().thread) state.published = machine().barriers;
}

void arrive(Barrier* barrier, long long bytes) {
  BarrierState& state = state_of(barrier);
  if (state.pending == 0) give_up("more threads arrive at a barrier than it was made for");
  --state.pending;
  state.bytes += bytes;
  end_phase_if_complete(state);
}

void wait(const Barrier* barrier, unsigned parity) {
  BarrierState& state = state_of(barrier);
  while (state.phase % 2 == parity) wait_until_changed(state.phase, state.phase);
}

void copy_bulk(void* shared, const void* global, int bytes, Barrier* barrier) {
  state_of(barrier);
  const auto misaligned = [](const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) % 16 != 0;
  };
  if (misaligned(shared) || misaligned(global) || bytes % 16 != 0 || bytes <= 0)
    give_up("a misaligned copy");
  if (!in_shared(shared, static_cast<std::size_t>(bytes))) give_up("a copy past the shared memory");
  const BulkCopy copy{static_cast<std::byte*>(shared), static_cast<const std::byte*>(global), bytes,
                      barrier};
  if (settings().copies_early) return carry_out(copy);
  std::memset(shared, 0xff, static_cast<std::size_t>(bytes));
  machine().bulk_copies.push_back(copy);
}

bool bulk_copy_comes() {
  Machine& m = machine();
  auto& copies = m.bulk_copies;
  if (copies.empty()) return false;
  std::swap(copies[m.random() % copies.size()], copies.back());
  const BulkCopy copy = copies.back();
  copies.pop_back();
  carry_out(copy);
  return true;
}

std::uint32_t shared_address(const void* shared) {
  return static_cast<std::uint32_t>(static_cast<const std::byte*>(shared) - thread().shared) +
         kSharedBegins;
}

void fence_operands() {
  machine().current->operands_fenced = true;
}

void multiply_async(float* sum, const std::uint32_t* a, std::uint64_t descriptor) {
  meet_warpgroup(descriptor);
  Fiber& fiber = *machine().current;
  if (!fiber.operands_fenced) give_up("a group of products without fence_operands() before it");
  const auto [it, is_new] = fiber.sums.try_emplace(sum);
  if (is_new)
    std::copy_n(sum, 64, it->second.value);
  else if (!is_poisoned(sum))
    give_up("sums were written while products run");
  std::fill_n(sum, 64, std::bit_cast<float>(kInFlight));
  ++it->second.products;
  AsyncProduct product{sum, a, {a[0], a[1], a[2], a[3]}, descriptor, false};
  if (settings().copies_early) multiply(product);
  fiber.open_products.push_back(product);
}

void commit_products() {
  Fiber& fiber = *machine().current;
  fiber.product_groups.push_back(std::move(fiber.open_products));
  fiber.open_products.clear();
  fiber.operands_fenced = false;
}

void wait_products(int groups_left) {
  Fiber& fiber = *machine().current;
  while (fiber.product_groups.size() > static_cast<std::size_t>(groups_left)) {
    for (AsyncProduct& product : fiber.product_groups.front()) {
      if (std::memcmp(product.a, product.a_then, sizeof product.a_then) != 0)
        give_up("registers of an operand were written while a product reads them");
      if (!product.done) multiply(product);
      AsyncSum& sum = fiber.sums.at(product.sum);
      if (--sum.products > 0) continue;
      if (!is_poisoned(product.sum)) give_up("sums were written while products run");
      std::copy_n(sum.value, 64, product.sum);
      fiber.sums.erase(product.sum);
    }
    fiber.product_groups.pop_front();
  }
  exchange(char{});  // a warp's products end together
}

void settle(float* sum) {
  if (machine().current->sums.contains(sum)) give_up("sums are read while products run");
}

void sync_threads(int name, int count) {
  if (name < 1 || name > 15 || count % kWarp != 0 || count > thread().threads)
    give_up("a barrier of threads that there is not");
  meet(machine().named[name], count, static_cast<std::uint64_t>(count),
       "threads at a barrier that disagree on their number");
}

void set_registers(int registers) {
  if (registers % 8 != 0 || registers < 24 || registers > 256)
    give_up("a number of registers that there is not");
  meet_warpgroup(static_cast<std::uint64_t>(registers));
}

void check_end_of_thread() {
  const Fiber& fiber = *machine().current;
  if (!fiber.product_groups.empty() || !fiber.open_products.empty())
    give_up("a thread ends before its products");
}

void check_end_of_block() {
  if (!machine().bulk_copies.empty()) give_up("a block ends before copies to its shared memory");
}

}  // namespace kquant::cuda::emulator
