#pragma once
// What a kernel may touch, and when.

#include <map>
#include <mutex>
#include <vector>

#include "program.hpp"

namespace kquant::ptx {

/// Each byte of what nobody has written yet: NaN as floats.
inline constexpr u8 kPoison = 0xff;

/// What has been allocated on the device. New memory is kPoison.
class DeviceMemory {
 public:
  void* allocate(std::size_t bytes);
  void release(void* p);
  /// Where a kernel reads or writes; it must lie in one allocation, at a multiple of `alignment`.
  u8* at(u64 address, std::size_t bytes, std::size_t alignment);
  static DeviceMemory& instance();

 private:
  std::mutex mutex_;
  std::map<u64, u64> ends_;  ///< of each allocation, by where it begins
  u64 latest_begin_ = 1, latest_end_ = 0;
};

/// Vector clocks: moment [w] of warp w is the last one of which a warp (or a barrier) knows that it
/// has passed; a warp's own is the present.
using Moments = std::vector<u32>;
void learn(Moments& knows, const Moments& of_other);

/// A block's, of which it says what two warps do without one having waited for the other: two
/// writes, or a read and a write, of one byte.
class SharedMemory {
 public:
  SharedMemory(u32 bytes, u32 warps);
  /// For a new block: kPoison everywhere. Returns what its warps know at first.
  Moments begin();
  /// Of what has been, whatever warps of later blocks do comes after.
  void end(const Moments& of_a_warp);

  const u8* read(u32 at, u32 bytes, u32 alignment, u32 warp, const Moments& knows);
  u8* write(u32 at, u32 bytes, u32 alignment, u32 warp, const Moments& knows);
  /// That a warp will have read them only by now.
  void note_read(u32 at, u32 bytes, u32 warp, const Moments& knows);
  /// By what no warp does itself.
  u8* data() { return bytes_.data(); }

 private:
  void check(u32 at, u32 bytes, u32 alignment) const;
  struct Write {
    u32 warp = 0, moment = 0;
  };
  u32 warps_, begin_ = 0;
  std::vector<u8> bytes_;
  std::vector<Write> written_;  ///< the latest, a byte
  std::vector<u32> read_;       ///< moments, one of each warp a byte
};

}  // namespace kquant::ptx
