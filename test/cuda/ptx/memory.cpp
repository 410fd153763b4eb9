#include "memory.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace kquant::ptx {
namespace {

constexpr std::size_t kAlignment = 256;

[[noreturn]] void wrong_place(const char* what, u64 at, std::size_t bytes) {
  throw Fault(std::string(what) + ": " + std::to_string(bytes) + " bytes at " + std::to_string(at));
}
[[noreturn]] void race(const char* what, u32 at, u32 warp, u32 other) {
  throw Fault("race: byte " + std::to_string(at) + " of shared memory: warp " +
              std::to_string(warp) + " " + what + " warp " + std::to_string(other) +
              ", and neither waits for the other");
}

}  // namespace

DeviceMemory& DeviceMemory::instance() {
  static DeviceMemory memory;
  return memory;
}

void* DeviceMemory::allocate(std::size_t bytes) {
  bytes = std::max<std::size_t>(bytes, 1);
  void* const p =
      std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  if (p == nullptr) return nullptr;
  std::memset(p, kPoison, bytes);
  const std::lock_guard lock(mutex_);
  ends_[reinterpret_cast<u64>(p)] = reinterpret_cast<u64>(p) + bytes;
  return p;
}

void DeviceMemory::release(void* p) {
  {
    const std::lock_guard lock(mutex_);
    ends_.erase(reinterpret_cast<u64>(p));
    latest_begin_ = 1, latest_end_ = 0;
  }
  std::free(p);
}

u8* DeviceMemory::at(u64 address, std::size_t bytes, std::size_t alignment) {
  if (address % alignment != 0) wrong_place("device memory, misaligned", address, bytes);
  const std::lock_guard lock(mutex_);
  if (address < latest_begin_ || address + bytes > latest_end_) {
    const auto next = ends_.upper_bound(address);
    if (next == ends_.begin() || address + bytes > std::prev(next)->second)
      wrong_place("device memory that is not allocated", address, bytes);
    latest_begin_ = std::prev(next)->first, latest_end_ = std::prev(next)->second;
  }
  return reinterpret_cast<u8*>(address);
}

void learn(Moments& knows, const Moments& of_other) {
  for (std::size_t i = 0; i < knows.size(); ++i) knows[i] = std::max(knows[i], of_other[i]);
}

SharedMemory::SharedMemory(u32 bytes, u32 warps)
    : warps_(warps), bytes_(bytes), written_(bytes), read_(std::size_t{bytes} * warps) {}

Moments SharedMemory::begin() {
  std::fill(bytes_.begin(), bytes_.end(), kPoison);
  return Moments(warps_, begin_);
}

void SharedMemory::end(const Moments& of_a_warp) {
  begin_ = std::max(begin_, *std::max_element(of_a_warp.begin(), of_a_warp.end()));
}

void SharedMemory::check(u32 at, u32 bytes, u32 alignment) const {
  if (at % alignment != 0) wrong_place("shared memory, misaligned", at, bytes);
  if (at + std::size_t{bytes} > bytes_.size()) wrong_place("beyond shared memory", at, bytes);
}

const u8* SharedMemory::read(u32 at, u32 bytes, u32 alignment, u32 warp, const Moments& knows) {
  check(at, bytes, alignment);
  for (u32 i = at; i < at + bytes; ++i)
    if (const Write& w = written_[i]; w.moment > knows[w.warp])
      race("reads what is written by", i, warp, w.warp);
  note_read(at, bytes, warp, knows);
  return bytes_.data() + at;
}

void SharedMemory::note_read(u32 at, u32 bytes, u32 warp, const Moments& knows) {
  for (u32 i = at; i < at + bytes; ++i) read_[std::size_t{i} * warps_ + warp] = knows[warp];
}

u8* SharedMemory::write(u32 at, u32 bytes, u32 alignment, u32 warp, const Moments& knows) {
  check(at, bytes, alignment);
  for (u32 i = at; i < at + bytes; ++i) {
    if (Write& w = written_[i]; w.moment > knows[w.warp])
      race("writes what is written by", i, warp, w.warp);
    else
      w = {warp, knows[warp]};
    for (u32 other = 0; other < warps_; ++other)
      if (read_[std::size_t{i} * warps_ + other] > knows[other])
        race("writes what is read by", i, warp, other);
  }
  return bytes_.data() + at;
}

}  // namespace kquant::ptx
