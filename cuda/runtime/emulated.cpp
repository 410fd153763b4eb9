// A device that is the CPU, for tests. Memory ends where a page begins that nobody may touch, so
// that a kernel that reads or writes past its end is caught at once.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <vector>

#include "cuda/runtime.hpp"
#include "cuda/runtime/emulated.hpp"

namespace kquant::cuda {
namespace {

class EmulatedRecording : public Recording {
 public:
  std::vector<std::function<void()>> steps;
};

class EmulatedQueue : public Queue {
 public:
  EmulatedQueue(std::size_t memory, int compute_major) {
    info_ = {.ordinal = 0,
             .name = "emulated",
             .compute_major = compute_major,
             .compute_minor = 0,
             .multiprocessors = 4,
             .memory = memory};
  }
  ~EmulatedQueue() override {
    for (const auto& [p, block] : blocks_) munmap(block.pages, block.bytes);
  }
  const DeviceInfo& info() const override { return info_; }
  Result<std::size_t> free_memory() override { return info_.memory - taken_; }

  Result<void*> allocate(std::size_t bytes) override {
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
    const auto it = blocks_.find(static_cast<std::byte*>(p));
    taken_ -= it->second.asked;
    munmap(it->second.pages, it->second.bytes);
    blocks_.erase(it);
  }
  Result<void*> allocate_pinned(std::size_t bytes) override { return ::operator new(bytes); }
  void release_pinned(void* p) override { ::operator delete(p); }

  void copy_to_device(void* to, const void* from, std::size_t bytes) override {
    std::memcpy(to, from, bytes);
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) override {
    std::memcpy(to, from, bytes);
  }
  void copy_on_device(void* to, const void* from, std::size_t bytes) override {
    step([=] { std::memcpy(to, from, bytes); });
  }
  void fill(void* to, std::byte value, std::size_t bytes) override {
    step([=] { std::memset(to, static_cast<int>(value), bytes); });
  }
  Result<void> finish() override { return {}; }

  void begin_recording() override { recording_ = std::make_unique<EmulatedRecording>(); }
  Result<std::unique_ptr<Recording>> end_recording() override { return std::move(recording_); }
  void replay(const Recording& recording) override {
    for (const auto& s : dynamic_cast<const EmulatedRecording&>(recording).steps) s();
  }

 protected:
  void launch_function(const Launch& size, std::function<void()> body) override {
    step([size, body = std::move(body)] { emulator::run(size, body); });
  }

 private:
  struct Block {
    void* pages;
    std::size_t bytes, asked;
  };
  void step(std::function<void()> fn) {
    if (recording_)
      recording_->steps.push_back(std::move(fn));
    else
      fn();
  }
  DeviceInfo info_;
  std::size_t taken_ = 0;
  std::map<std::byte*, Block> blocks_;
  std::unique_ptr<EmulatedRecording> recording_;
};

}  // namespace

std::shared_ptr<Queue> emulated_queue(std::size_t memory, int compute_major) {
  return std::make_shared<EmulatedQueue>(memory, compute_major);
}

}  // namespace kquant::cuda
