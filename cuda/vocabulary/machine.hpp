#pragma once
// The emulated GPU's state, for emulator.cpp and hopper_emulator.cpp.
#include <ucontext.h>

#include <csetjmp>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "cuda/hopper.hpp"

namespace kquant::cuda::emulator {

struct Copy {
  void* to;
  const void* from;
};

/// A product that wgmma has begun: where its operands and sums are, which it reads and writes when
/// it likes to.
struct AsyncProduct {
  float* sum;
  const std::uint32_t* a;
  std::uint32_t a_then[4];
  std::uint64_t descriptor;
  bool done;
};
/// Sums that products in flight belong to; their registers are poisoned meanwhile.
struct AsyncSum {
  float value[64];
  int products = 0;
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
  std::deque<std::vector<AsyncProduct>> product_groups;
  std::vector<AsyncProduct> open_products;
  std::map<float*, AsyncSum> sums;
  bool operands_fenced = false;
};

struct Warp {
  int arrived = 0;
  unsigned barriers = 0;
  alignas(16) std::byte given[2][kWarp * kMost];
};

/// Threads that meet: a warpgroup, or those of a named barrier.
struct Meeting {
  int arrived = 0;
  unsigned meetings = 0;
  std::uint64_t value = 0;  ///< that all of them bring
};

struct BarrierState {
  int arrivals = 0, pending = 0;
  long long bytes = 0;  ///< that are still to come
  unsigned phase = 0;
  int maker = 0;
  unsigned published = ~0u;  ///< block-wide barriers before publish_barriers()
};

struct BulkCopy {
  std::byte* to;
  const std::byte* from;
  int bytes;
  Barrier* barrier;
};

struct Machine {
  std::deque<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<Words4> shared;
  std::vector<int> order;
  int threads = 0, arrived = 0, left = 0;
  unsigned barriers = 0;
  unsigned previous_done = 1;  ///< whether all launches before this one are
  Fiber* current = nullptr;
  const std::function<void()>* body = nullptr;
  jmp_buf scheduler{};
  std::minstd_rand random;

  std::vector<Meeting> warpgroups;
  std::map<int, Meeting> named;
  std::map<const Barrier*, BarrierState> barrier_states;
  std::vector<BulkCopy> bulk_copies;  ///< in flight
};

Machine& machine();
[[noreturn]] void give_up(const char* what);
/// Lets others run until the count has changed.
void wait_until_changed(const unsigned& count, unsigned seen);
bool in_shared(const void* p, std::size_t bytes);

/// One of the copies in flight comes; false where there are none.
bool bulk_copy_comes();
/// Ends the program where a thread, or a block, has left work behind that nobody waited for.
void check_end_of_thread();
void check_end_of_block();

}  // namespace kquant::cuda::emulator
