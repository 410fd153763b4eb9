#include "block.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace kquant::ptx {
namespace {

u32 lanes_where(const Warp& warp, const Instruction& i) {
  u32 mask = 0;
  const Register predicate{static_cast<u32>(i.predicate), false};
  for (u32 lane = 0; lane < kLanes; ++lane)
    mask |= static_cast<u32>((warp.get<u32>(predicate, lane) != 0) != i.predicate_is_false) << lane;
  return mask;
}

/// Groups at one instruction become one.
void merge(std::vector<Warp::Group>& groups) {
  std::sort(groups.begin(), groups.end(),
            [](const auto& a, const auto& b) { return a.next < b.next; });
  std::size_t last = 0;
  for (std::size_t i = 1; i < groups.size(); ++i) {
    if (groups[i].next == groups[last].next)
      groups[last] = {groups[last].next, groups[last].lanes | groups[i].lanes};
    else
      groups[++last] = groups[i];
  }
  groups.resize(last + 1);
}

}  // namespace

Block::Block(const Kernel& k, Dim g, u32 n_threads, u32 shared_bytes, const u8* values)
    : kernel(k),
      grid(g),
      threads(n_threads),
      parameters(values),
      shared(shared_bytes, (n_threads + kLanes - 1) / kLanes),
      warps((n_threads + kLanes - 1) / kLanes) {
  for (u32 w = 0; w < warps.size(); ++w) {
    warps[w].number = w;
    warps[w].narrow.resize(std::size_t{k.narrow} * kLanes);
    warps[w].wide.resize(std::size_t{k.wide} * kLanes);
    warps[w].local.resize(std::size_t{k.local_bytes} * kLanes);
  }
}

u64 Block::special(const std::string& name, u32 thread) const {
  if (name == "%tid.x") return thread;
  if (name == "%ntid.x") return threads;
  if (name == "%ctaid.x") return position.x;
  if (name == "%ctaid.y") return position.y;
  if (name == "%ctaid.z") return position.z;
  if (name == "%nctaid.x") return grid.x;
  if (name == "%nctaid.y") return grid.y;
  if (name == "%nctaid.z") return grid.z;
  throw Fault("not known here: " + name);
}

void Block::begin(Warp& warp, const Moments& knows) {
  const u32 first = warp.number * kLanes, n = std::min(kLanes, threads - first);
  warp.alive = n == kLanes ? kAllLanes : (1u << n) - 1;
  warp.groups.assign(1, {0, warp.alive});
  warp.at_barrier = warp.gives_way = false;
  warp.knows = knows;
  warp.happens();
  // What the last block has left is no value of this one.
  std::fill(warp.narrow.begin(), warp.narrow.end(), 0x7fbadbadu);
  std::fill(warp.wide.begin(), warp.wide.end(), 0x7fbadbadbadbad00u);
  std::fill(warp.local.begin(), warp.local.end(), kPoison);
  for (u32 lane = 0; lane < kLanes; ++lane) {
    for (const auto& [to, value] : kernel.constants) warp.set(to, lane, value);
    for (const auto& [to, name] : kernel.specials) warp.set(to, lane, special(name, first + lane));
    for (const Register to : kernel.local_addresses)
      warp.set(to, lane, reinterpret_cast<u64>(warp.local.data()) + u64{lane} * kernel.local_bytes);
  }
}

void Block::run(Dim where, u64 seed) {
  position = where;
  random_.seed(seed);
  named_barriers_ = {};
  phase_barriers.clear();
  const Moments knows = shared.begin();
  for (Warp& warp : warps) begin(warp, knows);
  try {
    run_warps();
    if (!bulk_copies.empty()) throw Fault("it ends before its bulk copies do");
    for (Warp& warp : warps) {
      shared.end(warp.knows);
      const bool left = std::any_of(warp.copy_groups.begin(), warp.copy_groups.end(),
                                    [](const auto& group) { return !group.empty(); });
      if (left || !warp.copies.empty()) throw Fault("it ends before its copies do");
      if (!warp.product_groups.empty() || !warp.products.empty())
        throw Fault("it ends before its products do");
      warp.copy_groups.clear();
    }
  } catch (const Fault& fault) {
    throw Fault(kernel.name + ", block " + std::to_string(where.x) + " " + std::to_string(where.y) +
                " " + std::to_string(where.z) + ", line " +
                std::to_string(current_ != nullptr ? current_->line : 0) + ": " + fault.what());
  }
}

void Block::run_warps() {
  constexpr u64 kMostSteps = 2000;
  const auto ended = [](const Warp& w) { return w.groups.empty(); };
  while (!std::all_of(warps.begin(), warps.end(), ended)) {
    progress_ = false;
    const std::size_t first = random_() % warps.size();
    for (std::size_t i = 0; i < warps.size(); ++i) {
      Warp& warp = warps[(first + i) % warps.size()];
      if (!ended(warp) && !warp.at_barrier)
        run_warp(warp, static_cast<int>(1 + random_() % kMostSteps));
      if (!bulk_copies.empty() && random_() % 4 == 0) finish_a_copy();
    }
    if (!progress_ && bulk_copies.empty()) stuck();
    if (!progress_) finish_a_copy();
  }
}

void Block::run_warp(Warp& warp, int steps) {
  for (Warp::Group& group : warp.groups) group.gave_way = false;
  while (!warp.groups.empty() && !warp.at_barrier && steps > 0) {
    merge(warp.groups);
    std::size_t chosen = 0;
    const auto cannot = [&](Warp::Group& g) {
      if (g.lanes == warp.alive) g.waits_for_lanes = false;
      return g.gave_way || g.waits_for_lanes;
    };
    while (chosen < warp.groups.size() && cannot(warp.groups[chosen])) ++chosen;
    if (chosen == warp.groups.size()) return;
    const bool is_last = chosen + 1 == warp.groups.size();
    run_group(warp, chosen,
              is_last ? static_cast<int>(kernel.code.size()) : warp.groups[chosen + 1].next, steps);
  }
  progress_ = progress_ || steps == 0 || warp.groups.empty();
}

/// Until it meets the next group, branches apart, or has to wait.
void Block::run_group(Warp& warp, std::size_t index, int meets_at, int& steps) {
  const auto group = [&]() -> Warp::Group& { return warp.groups[index]; };
  const u32 all = group().lanes;
  int& next = group().next;  // valid as long as no group is added
  while (next < meets_at && steps > 0) {
    --steps;
    const Instruction& i = kernel.code[static_cast<std::size_t>(next)];
    current_ = &i;
    const u32 active = i.predicate < 0 ? all : all & lanes_where(warp, i);
    if (i.collective && active != 0 && active != warp.alive) {
      if (active != all) throw Fault("only some lanes of a warp do what all must");
      group().waits_for_lanes = true;
      return;
    }
    if (active == 0) {
      ++next;
    } else if (i.flow == Instruction::Flow::kNext) {
      if (traffic != nullptr && (i.bytes > 0 || i.copies))
        (*traffic)[&i] += traffic_of(warp, i, active);
      if (i.execute != nullptr) i.execute(*this, warp, i, active);
      ++next;
      group().gave_way = warp.gives_way;
      if (std::exchange(warp.gives_way, false) || warp.at_barrier) return;
    } else if (i.flow == Instruction::Flow::kReturn) {
      warp.alive &= ~active;
      ++next;
      group().lanes &= ~active;
      if (group().lanes == 0)
        warp.groups.erase(warp.groups.begin() + static_cast<std::ptrdiff_t>(index));
      return;
    } else if (active == all) {
      next = i.target;
    } else {
      ++next;
      group().lanes &= ~active;
      warp.groups.push_back({i.target, active});
      return;
    }
  }
}

void Block::arrive(Warp& warp, u32 name, u32 count) {
  if (name >= named_barriers_.size() || count % kLanes != 0 || count == 0 ||
      count > warps.size() * kLanes)
    throw Fault("bar.sync " + std::to_string(name) + " of " + std::to_string(count) + " threads");
  NamedBarrier& barrier = named_barriers_[name];
  if (!barrier.warps.empty() && barrier.threads != count)
    throw Fault("bar.sync " + std::to_string(name) + " of " + std::to_string(count) +
                " threads, where others expect " + std::to_string(barrier.threads));
  barrier.threads = count;
  barrier.warps.push_back(warp.number);
  warp.at_barrier = true;
  progress_ = true;
  if (barrier.warps.size() * kLanes < count) return;
  Moments knows = warp.knows;
  for (const u32 w : barrier.warps) learn(knows, warps[w].knows);
  for (const u32 w : barrier.warps) {
    warps[w].knows = knows;
    warps[w].happens();
    warps[w].at_barrier = false;
  }
  barrier.warps.clear();
}

PhaseBarrier& Block::phase_barrier(u32 at) {
  const auto found = phase_barriers.find(at);
  if (found == phase_barriers.end()) throw Fault("no mbarrier at " + std::to_string(at));
  return found->second;
}

void Block::end_phases(PhaseBarrier& barrier) {
  if (barrier.missing < 0) throw Fault("more arrive at an mbarrier than it expects");
  while (barrier.missing == 0 && barrier.missing_bytes == 0) {
    ++barrier.phase;
    barrier.missing = barrier.arrivals;
    barrier.of_ended = barrier.of_arrivals;
    progress_ = true;
  }
}

void Block::finish_a_copy() {
  const auto at = bulk_copies.begin() + static_cast<std::ptrdiff_t>(random_() % bulk_copies.size());
  std::memcpy(shared.data() + at->to, reinterpret_cast<const void*>(at->from), at->bytes);
  PhaseBarrier& barrier = phase_barrier(at->barrier);
  barrier.missing_bytes -= at->bytes;
  learn(barrier.of_arrivals, at->knows);
  bulk_copies.erase(at);
  end_phases(barrier);
  progress_ = true;
}

void Block::stuck() const {
  std::string where;
  for (const Warp& warp : warps)
    for (const Warp::Group& group : warp.groups)
      where += " " + std::to_string(warp.number) + " at line " +
               std::to_string(kernel.code[static_cast<std::size_t>(group.next)].line) + ";";
  throw Fault("no warp can go on:" + where);
}

void launch(const Kernel& kernel, Dim grid, Dim block, u32 shared_bytes, const u8* parameters,
            u64 seed) {
  if (block.y != 1 || block.z != 1)
    throw Fault(kernel.name + ": not known here: blocks of more than one dimension");
  if (kernel.most_threads != 0 && block.x > kernel.most_threads)
    throw Fault(kernel.name + ": " + std::to_string(block.x) +
                " threads, where it is compiled for " + std::to_string(kernel.most_threads));
  std::mt19937_64 random(seed);
  std::vector<u64> order(u64{grid.x} * grid.y * grid.z);
  std::iota(order.begin(), order.end(), u64{0});
  std::shuffle(order.begin(), order.end(), random);
  Block running(kernel, grid, block.x, shared_bytes, parameters);
  running.traffic = TrafficCount::of(kernel.name);
  for (const u64 i : order)
    running.run({static_cast<u32>(i % grid.x), static_cast<u32>(i / grid.x % grid.y),
                 static_cast<u32>(i / grid.x / grid.y)},
                random());
}

}  // namespace kquant::ptx
