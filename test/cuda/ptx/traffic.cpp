#include "block.hpp"

#include <algorithm>

namespace kquant::ptx {
namespace {

constexpr u32 kSector = 32, kBanks = 32, kWord = 4;

TrafficCount* latest = nullptr;

template <std::size_t kMost>
class Set {
 public:
  void insert(u64 x) {
    const auto end = values_.begin() + static_cast<std::ptrdiff_t>(size_);
    if (std::find(values_.begin(), end, x) == end) values_[size_++] = x;
  }
  u64 size() const { return size_; }

 private:
  std::array<u64, kMost> values_;
  std::size_t size_ = 0;
};

using Addresses = std::array<u64, kLanes>;

void count_sectors(const Addresses& at, u32 active, u32 bytes, Traffic& to) {
  Set<2 * kLanes> sectors;
  Set<kLanes> places;
  lanes(active, [&](u32 l) {
    sectors.insert(at[l] / kSector);
    sectors.insert((at[l] + bytes - 1) / kSector);
    places.insert(at[l]);
  });
  to.sectors += sectors.size();
  to.fewest_sectors += (places.size() * bytes + kSector - 1) / kSector;
}

void count_rounds(const Addresses& at, u32 active, u32 bytes, Traffic& to) {
  const u32 words = std::max(1u, bytes / kWord), together = kLanes / words;
  for (u32 first = 0; first < kLanes; first += together) {
    std::array<Set<kLanes>, kBanks> of_bank;
    u64 most = 0;
    for (u32 l = first; l < first + together; ++l)
      for (u32 w = 0; w < words && (active >> l & 1) != 0; ++w) {
        const u64 word = at[l] / kWord + w;
        of_bank[word % kBanks].insert(word);
        most = std::max(most, of_bank[word % kBanks].size());
      }
    to.rounds += most;
    to.fewest_rounds += most > 0 ? 1 : 0;
  }
}

}  // namespace

Traffic& Traffic::operator+=(const Traffic& other) {
  sectors += other.sectors, fewest_sectors += other.fewest_sectors;
  rounds += other.rounds, fewest_rounds += other.fewest_rounds;
  return *this;
}

Traffic traffic_of(const Warp& w, const Instruction& i, u32 active) {
  Traffic out;
  Addresses at{};
  if (i.bytes == 0) {
    lanes(active, [&](u32 l) {
      const u64 from = w.source(i, l), bytes = w.get<u32>(i.operands[2], l);
      out.sectors += (from + bytes - 1) / kSector - from / kSector + 1;
      out.fewest_sectors += (bytes + kSector - 1) / kSector;
    });
    return out;
  }
  lanes(active, [&](u32 l) { at[l] = w.address(i, l); });
  if (i.space == Space::kShared)
    count_rounds(at, active, i.bytes, out);
  else if (i.space == Space::kGlobal || i.space == Space::kGeneric)
    count_sectors(at, active, i.bytes, out);
  if (i.copies) {
    lanes(active, [&](u32 l) { at[l] = w.source(i, l); });
    count_sectors(at, active, i.bytes, out);
  }
  return out;
}

TrafficCount::TrafficCount() : before_(std::exchange(latest, this)) {}
TrafficCount::~TrafficCount() {
  latest = before_;
}
Traffic TrafficCount::total(std::string_view part_of_name) const {
  Traffic sum;
  for (const auto& [kernel, instructions] : kernels)
    if (kernel.find(part_of_name) != kernel.npos)
      for (const auto& [instruction, one] : instructions) sum += one;
  return sum;
}
TrafficOfKernel* TrafficCount::of(const std::string& kernel) {
  return latest != nullptr ? &latest->kernels[kernel] : nullptr;
}

}  // namespace kquant::ptx
