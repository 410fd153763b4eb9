// Loads, stores, atomics and copies to shared memory.

#include <cstring>

#include "block.hpp"

namespace kquant::ptx {
namespace {

bool is_local(const Warp& w, u64 at) {
  return at - reinterpret_cast<u64>(w.local.data()) < w.local.size();
}

/// Where a lane reads or writes so many bytes.
template <bool kStores>
std::conditional_t<kStores, u8*, const u8*> place(Block& b, Warp& w, const Instruction& i, u32 lane,
                                                  u32 bytes) {
  const u64 at = w.address(i, lane);
  if (i.space == Space::kShared) {
    if constexpr (kStores)
      return b.shared.write(static_cast<u32>(at), bytes, bytes, w.number, w.knows);
    else
      return b.shared.read(static_cast<u32>(at), bytes, bytes, w.number, w.knows);
  }
  if (i.space == Space::kParam) {
    if (kStores || at + bytes > b.kernel.parameter_bytes) throw Fault("beyond the parameters");
    return const_cast<u8*>(b.parameters) + at;
  }
  if (i.space == Space::kLocal || (i.space == Space::kGeneric && is_local(w, at))) {
    if (!is_local(w, at) || !is_local(w, at + bytes - 1) || at % bytes != 0)
      throw Fault("beyond local memory, or misaligned");
    return reinterpret_cast<u8*>(at);
  }
  return DeviceMemory::instance().at(at, bytes, bytes);
}

template <class T>
void load(Block& b, Warp& w, const Instruction& i, u32 active) {
  const auto n = static_cast<u32>(i.operands.size() - 1);
  lanes(active, [&](u32 l) {
    const u8* const from = place<false>(b, w, i, l, n * u32{sizeof(T)});
    for (u32 v = 0; v < n; ++v) {
      T value;
      std::memcpy(&value, from + v * sizeof(T), sizeof(T));
      if (i.operands[1 + v].index != kNowhere) w.set<T>(i.operands[1 + v], l, value);
    }
  });
}
template <class T>
void store(Block& b, Warp& w, const Instruction& i, u32 active) {
  const auto n = static_cast<u32>(i.operands.size() - 1);
  lanes(active, [&](u32 l) {
    u8* const to = place<true>(b, w, i, l, n * u32{sizeof(T)});
    for (u32 v = 0; v < n; ++v) {
      const T value = w.get<T>(i.operands[1 + v], l);
      std::memcpy(to + v * sizeof(T), &value, sizeof(T));
    }
  });
}
Execute load_or_store(Type type, bool is_load) {
  return for_any_number(type, [&]<class T>() -> Execute { return is_load ? load<T> : store<T>; });
}

/// operands: address, what is added, and where what was there goes.
template <class T>
void add(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    u8* const at = DeviceMemory::instance().at(w.address(i, l), sizeof(T), sizeof(T));
    T before;
    std::memcpy(&before, at, sizeof(T));
    const T after = before + w.get<T>(i.operands[1], l);
    std::memcpy(at, &after, sizeof(T));
    if (i.operands.size() > 2) w.set<T>(i.operands[2], l, before);
  });
}

constexpr u32 kCopyBytes = 16;  ///< of a cp.async

/// Until the warp has waited for it, there are ones in its place.
void copy(Block& b, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    const auto to = static_cast<u32>(w.address(i, l));
    const u64 from = w.source(i, l);
    DeviceMemory::instance().at(from, kCopyBytes, kCopyBytes);
    std::memset(b.shared.write(to, kCopyBytes, kCopyBytes, w.number, w.knows), kPoison, kCopyBytes);
    w.copies.push_back({to, from});
  });
}
void commit_copies(Block&, Warp& w, const Instruction&, u32) {
  w.copy_groups.push_back(std::exchange(w.copies, {}));
}
void wait_for_copies(Block& b, Warp& w, const Instruction& i, u32) {
  while (w.copy_groups.size() > static_cast<std::size_t>(i.offset)) {
    for (const auto& [to, from] : w.copy_groups.front())
      std::memcpy(b.shared.write(to, kCopyBytes, kCopyBytes, w.number, w.knows),
                  reinterpret_cast<const void*>(from), kCopyBytes);
    w.copy_groups.erase(w.copy_groups.begin());
  }
}

void init_barrier(Block& b, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    const auto at = static_cast<u32>(w.address(i, l));
    b.shared.write(at, 8, 8, w.number, w.knows);
    const i64 arrivals = w.get<i32>(i.operands[1], l);
    b.phase_barriers[at] = {
        arrivals, arrivals, 0, 0, Moments(w.knows.size()), Moments(w.knows.size())};
  });
}
/// With a second operand: says how many bytes will come before the phase ends.
void arrive(Block& b, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    PhaseBarrier& barrier = b.phase_barrier(static_cast<u32>(w.address(i, l)));
    if (i.operands.size() > 1) barrier.missing_bytes += w.get<i32>(i.operands[1], l);
    --barrier.missing;
    learn(barrier.of_arrivals, w.knows);
    w.happens();
    b.end_phases(barrier);
  });
}
/// operands: address, parity of the phase, whether it has ended.
void try_wait(Block& b, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    const PhaseBarrier& barrier = b.phase_barrier(static_cast<u32>(w.address(i, l)));
    const bool has_ended = (barrier.phase & 1) != (w.get<u32>(i.operands[1], l) & 1);
    w.set<u32>(i.operands[2], l, has_ended);
    if (has_ended)
      learn(w.knows, barrier.of_ended);
    else
      w.gives_way = true;
  });
}
/// operands: to, from, bytes, mbarrier.
void copy_bulk(Block& b, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    const auto to = static_cast<u32>(w.address(i, l)), bytes = w.get<u32>(i.operands[2], l);
    const u64 from = w.source(i, l);
    const u32 barrier = w.get<u32>(i.operands[3], l);
    if (bytes == 0 || bytes % 16 != 0)
      throw Fault("a bulk copy of " + std::to_string(bytes) + " bytes");
    b.phase_barrier(barrier);
    DeviceMemory::instance().at(from, bytes, 16);
    std::memset(b.shared.write(to, bytes, 16, w.number, w.knows), kPoison, bytes);
    b.bulk_copies.push_back({to, bytes, from, barrier, w.knows});
    w.happens();
  });
}

Space space_of(const Statement& s) {
  if (s.has("global")) return Space::kGlobal;
  if (s.has("shared") || s.has("shared::cta") || s.has("shared::cluster")) return Space::kShared;
  if (s.has("local")) return Space::kLocal;
  return s.has("param") ? Space::kParam : Space::kGeneric;
}

}  // namespace

bool decode_memory(const Statement& s, Names& names, Instruction& to) {
  const auto text = [&](std::size_t n) -> const std::string& { return s.operands.at(n).at(0); };
  const auto put_address = [&](std::size_t n) {
    to.operands.push_back(names.address(text(n), to.space, to.offset));
  };
  const auto put = [&](std::size_t n) { to.operands.push_back(names.operand(text(n), false)); };
  const auto put_source = [&](std::size_t n) {
    to.operands.push_back(names.address(text(n), Space::kGlobal, to.from_offset));
  };
  const std::string& opcode = s.opcode();
  // They order what is in order here: one block, one launch after the other.
  if (opcode == "membar" || opcode == "fence" || opcode == "griddepcontrol") return true;
  to.space = space_of(s);
  if (opcode == "ld" || opcode == "st") {
    const bool is_load = opcode == "ld";
    to.execute = load_or_store(s.type(), is_load);
    put_address(is_load ? 1 : 0);
    const auto& values = s.operands.at(is_load ? 0 : 1);
    for (const std::string& value : values)
      to.operands.push_back(names.operand(value, is_wide(s.type())));
    to.bytes = bytes_of(s.type()) * static_cast<u32>(values.size());
  } else if ((opcode == "atom" || opcode == "red") && to.space == Space::kGlobal && s.has("add")) {
    to.execute = s.type() == Type::kU32 ? add<u32> : s.type() == Type::kF32 ? add<float> : nullptr;
    const std::size_t first = opcode == "atom" ? 1 : 0;
    put_address(first);
    put(first + 1);
    to.bytes = bytes_of(s.type());
    if (opcode == "atom") put(0);
  } else if (opcode == "cp" && s.has("bulk") && s.has("mbarrier::complete_tx::bytes") &&
             s.operands.size() == 4) {
    to.execute = copy_bulk;
    to.copies = true;
    to.space = Space::kShared;
    put_address(0);
    put_source(1);
    put(2);
    i64 offset = 0;
    to.operands.push_back(names.address(text(3), Space::kShared, offset));
    if (offset != 0) s.unknown();
  } else if (opcode == "cp" && s.has("commit_group") && !s.has("bulk")) {
    to.execute = commit_copies;
    to.collective = true;
  } else if (opcode == "cp" && s.has("wait_group") && !s.has("bulk")) {
    to.execute = wait_for_copies;
    to.collective = true;
    to.offset = std::stoi(text(0));
  } else if (opcode == "cp" && s.has("cg") && s.operands.size() == 3 && text(2) == "16") {
    to.execute = copy;
    to.copies = true;
    to.bytes = kCopyBytes;
    to.space = Space::kShared;
    put_address(0);
    put_source(1);
  } else if (opcode == "mbarrier" && s.has("init")) {
    to.execute = init_barrier;
    put_address(0);
    put(1);
  } else if (opcode == "mbarrier" && s.has("arrive")) {
    to.execute = arrive;
    put_address(1);
    if (s.has("expect_tx")) put(2);
  } else if (opcode == "mbarrier" && s.has("try_wait") && s.has("parity")) {
    to.execute = try_wait;
    put_address(1);
    put(2);
    put(0);
  } else {
    return false;
  }
  return to.execute != nullptr;
}

}  // namespace kquant::ptx
