// A device that is the CPU, for tests. Memory ends where a page begins that nobody may touch, so
// that a kernel that reads or writes past its end is caught at once.
#include <sys/mman.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "cuda/runtime/communicator.hpp"
#include "cuda/runtime/emulated.hpp"

namespace kquant::cuda {
namespace {

/// What a block can have of it: CUDA's programming guide, of 8.0, 8.6 and 9.0.
std::size_t shared_memory_of(int compute_major, int compute_minor) {
  const std::size_t kilobytes = compute_major == 9 ? 227 : compute_minor == 0 ? 163 : 99;
  return kilobytes << 10;
}

/// A launch, or something else.
struct Step {
  std::function<void()> body;
  std::optional<emulator::Grid> grid = {};
};

class EmulatedRecording : public Recording {
 public:
  std::vector<Step> steps;
};

class EmulatedQueue : public Queue {
 public:
  EmulatedQueue(std::size_t memory, int ordinal, int compute_major, int compute_minor) {
    info_ = {.ordinal = ordinal,
             .name = "emulated",
             .compute_major = compute_major,
             .compute_minor = compute_minor,
             .multiprocessors = 4,
             .memory = memory,
             .shared_memory = shared_memory_of(compute_major, compute_minor)};
  }
  ~EmulatedQueue() override {
    for (const auto& [p, block] : blocks_) munmap(block.pages, block.bytes);
  }
  const DeviceInfo& info() const override { return info_; }
  Result<std::size_t> free_memory() override { return info_.memory - taken_; }

  void fail_launch(int before, Failure failure) {
    launches_before_failure_ = before;
    failure_ = failure;
  }

  Result<void*> allocate(std::size_t bytes) override {
    if (lost_) return fail(lost());
    if (bytes > info_.memory - taken_) return fail(ErrorCode::kOutOfMemory, "emulated GPU");
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t padded = (bytes + 15) / 16 * 16, all = (padded + page - 1) / page * page;
    void* pages =
        mmap(nullptr, all + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return fail(ErrorCode::kOutOfMemory, "emulated GPU: mmap");
    std::byte* end = static_cast<std::byte*>(pages) + all;
    mprotect(end, page, PROT_NONE);
    std::byte* p = end - padded;
    std::memset(p, 0xff, padded);
    blocks_[p] = {pages, all + page, bytes};
    taken_ += bytes;
    return p;
  }
  void release(void* p) override {
    catch_up();
    const auto it = blocks_.find(static_cast<std::byte*>(p));
    taken_ -= it->second.asked;
    munmap(it->second.pages, it->second.bytes);
    blocks_.erase(it);
  }
  Result<void*> allocate_pinned(std::size_t bytes) override { return ::operator new(bytes); }
  void release_pinned(void* p) override { ::operator delete(p); }

  void copy_to_device(void* to, const void* from, std::size_t bytes) override {
    catch_up();
    if (!lost_) std::memcpy(to, from, bytes);
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) override {
    catch_up();
    if (!lost_) std::memcpy(to, from, bytes);
  }
  void copy_on_device(void* to, const void* from, std::size_t bytes) override {
    step({[=] { std::memcpy(to, from, bytes); }});
  }
  void fill(void* to, std::byte value, std::size_t bytes) override {
    step({[=] { std::memset(to, static_cast<int>(value), bytes); }});
  }
  Result<void> finish() override {
    catch_up();
    if (lost_) return fail(lost());
    if (!std::exchange(launch_failed_, false)) return {};
    return fail(refused());
  }

  void begin_recording() override { recording_ = std::make_unique<EmulatedRecording>(); }
  Result<std::unique_ptr<Recording>> end_recording() override {
    std::unique_ptr<Recording> recording = std::move(recording_);
    if (lost_) return fail(lost());
    if (std::exchange(launch_failed_, false)) return fail(refused());
    return recording;
  }
  void replay(const Recording& recording) override {
    if (!launches()) return;
    for (const Step& s : dynamic_cast<const EmulatedRecording&>(recording).steps) take(s);
  }

  /// As a launch, but that it does not overlap with others.
  void launch_alone(std::function<void()> body) {
    if (launches()) step({std::move(body)});
  }

 protected:
  void launch_function(const Launch& size, std::function<void()> body) override {
    if (launches()) step({{}, emulator::Grid{size, std::move(body), info_.shared_memory}});
  }

 private:
  struct Block {
    void* pages;
    std::size_t bytes, asked;
  };
  static Error lost() { return {ErrorCode::kUnavailable, "GPU: computation: told to be lost"}; }
  static Error refused() { return {ErrorCode::kUnavailable, "GPU: launch: told to fail"}; }
  /// Whether the next launch does; told not to, it is remembered.
  bool launches() {
    if (launches_before_failure_ < 0 || launches_before_failure_-- > 0) return !lost_;
    launch_failed_ = true;
    lost_ |= failure_ == Failure::kDevice;
    return false;
  }
  void step(Step s) {
    if (lost_) return;
    if (recording_)
      recording_->steps.push_back(std::move(s));
    else
      take(s);
  }
  /// Half of the launches wait for the next one, which then begins before them.
  void take(const Step& s) {
    if (!s.grid) {
      catch_up();
      s.body();
    } else if (waiting_) {
      emulator::run_overlapping(*std::exchange(waiting_, {}), *s.grid);
    } else if (random_() % 2 == 0) {
      waiting_ = s.grid;
    } else {
      emulator::run(*s.grid);
    }
  }
  void catch_up() {
    if (waiting_) emulator::run(*std::exchange(waiting_, {}));
  }
  DeviceInfo info_;
  std::size_t taken_ = 0;
  std::map<std::byte*, Block> blocks_;
  std::unique_ptr<EmulatedRecording> recording_;
  std::optional<emulator::Grid> waiting_;
  std::minstd_rand random_;
  int launches_before_failure_ = -1;  ///< negative: none is to fail
  Failure failure_ = Failure::kLaunch;
  bool launch_failed_ = false, lost_ = false;
};

/// Where the ranks of emulated devices meet: nobody goes on before all are there.
class Meeting {
 public:
  explicit Meeting(std::size_t ranks) : given_(ranks) {}

  /// x of all ranks becomes their sum, in the order of ranks. False: somebody has given up, or gave
  /// another number of them.
  bool sum(std::size_t rank, float* x, std::size_t n) {
    given_[rank] = {x, n};
    if (!all_arrive()) return false;
    if (rank == 0) {
      for (const auto& [other, m] : given_)
        if (m != n) abort();
      if (!aborted()) add_up(n);
    }
    return all_arrive();
  }
  void abort() {
    const std::lock_guard lock(mutex_);
    aborted_ = true;
    changed_.notify_all();
  }
  bool aborted() {
    const std::lock_guard lock(mutex_);
    return aborted_;
  }

 private:
  void add_up(std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      float sum = 0;
      for (const auto& [x, m] : given_) sum += x[i];
      for (const auto& [x, m] : given_) x[i] = sum;
    }
  }
  bool all_arrive() {
    std::unique_lock lock(mutex_);
    const unsigned seen = round_;
    if (++arrived_ == given_.size()) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
    }
    changed_.wait(lock, [&] { return aborted_ || round_ != seen; });
    return !aborted_;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::pair<float*, std::size_t>> given_;
  std::size_t arrived_ = 0;
  unsigned round_ = 0;
  bool aborted_ = false;
};

class EmulatedCommunicator : public Communicator {
 public:
  EmulatedCommunicator(std::shared_ptr<Meeting> meeting, std::size_t rank, Queue& queue)
      : meeting_(std::move(meeting)), rank_(rank), queue_(dynamic_cast<EmulatedQueue&>(queue)) {}
  void sum(float* x, std::size_t n) override {
    queue_.launch_alone([=, this] { meeting_->sum(rank_, x, n); });
  }
  void abort() override { meeting_->abort(); }
  Result<void> check() override {
    if (!meeting_->aborted()) return {};
    return fail(ErrorCode::kUnavailable, "emulated GPUs: one of them gave up");
  }

 private:
  std::shared_ptr<Meeting> meeting_;
  std::size_t rank_;
  EmulatedQueue& queue_;
};

}  // namespace

bool runs_hopper_code(const DeviceInfo& device) {
  return device.compute_major == 9 && device.compute_minor == 0;
}

std::shared_ptr<Queue> emulated_queue(std::size_t memory, int ordinal, int compute_major,
                                      int compute_minor) {
  return std::make_shared<EmulatedQueue>(memory, ordinal, compute_major, compute_minor);
}

void fail_launch(Queue& queue, int before, Failure failure) {
  dynamic_cast<EmulatedQueue&>(queue).fail_launch(before, failure);
}

Result<std::vector<std::shared_ptr<Communicator>>> Communicator::open(
    std::span<const std::shared_ptr<Queue>> queues) {
  const auto meeting = std::make_shared<Meeting>(queues.size());
  std::vector<std::shared_ptr<Communicator>> all;
  for (std::size_t rank = 0; rank < queues.size(); ++rank)
    all.push_back(std::make_shared<EmulatedCommunicator>(meeting, rank, *queues[rank]));
  return all;
}

}  // namespace kquant::cuda
