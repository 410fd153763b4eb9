// Predicates, and what is chosen by them.

#include "block.hpp"

namespace kquant::ptx {
namespace {

enum Kind { kEqual, kNot, kLess, kAtMost, kGreater, kAtLeast, kNan, kKinds };

template <class T, Kind kKind, bool kOrUnordered>
void compare(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    const T a = w.get<T>(i.operands[1], l), b = w.get<T>(i.operands[2], l);
    const bool unordered = a != a || b != b;
    bool is = false;
    if constexpr (kKind == kEqual) is = a == b;
    if constexpr (kKind == kNot) is = a != b && !unordered;
    if constexpr (kKind == kLess) is = a < b;
    if constexpr (kKind == kAtMost) is = a <= b;
    if constexpr (kKind == kGreater) is = a > b;
    if constexpr (kKind == kAtLeast) is = a >= b;
    w.set<u32>(i.operands[0], l, is || ((kOrUnordered || kKind == kNan) && unordered));
  });
}
template <class T, bool kOrUnordered, std::size_t... kAll>
Execute comparison(std::size_t kind, std::index_sequence<kAll...>) {
  static constexpr Execute executes[] = {compare<T, static_cast<Kind>(kAll), kOrUnordered>...};
  return executes[kind];
}
Execute comparison(Type type, const std::string& name) {
  static const std::map<std::string, Kind> kinds{
      {"eq", kEqual},   {"ne", kNot},     {"lt", kLess}, {"le", kAtMost},
      {"gt", kGreater}, {"ge", kAtLeast}, {"nan", kNan}};
  const bool or_unordered = name.size() == 3 && name.back() == 'u';
  const auto found = kinds.find(or_unordered ? name.substr(0, 2) : name);
  if (found == kinds.end()) return nullptr;
  return for_number(type, [&]<class T>() -> Execute {
    constexpr auto kAll = std::make_index_sequence<kKinds>{};
    if constexpr (std::is_floating_point_v<T>)
      if (or_unordered) return comparison<T, true>(found->second, kAll);
    return comparison<T, false>(found->second, kAll);
  });
}

template <class T>
void select(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    w.set<T>(i.operands[0], l, w.get<T>(i.operands[w.get<u32>(i.operands[3], l) != 0 ? 1 : 2], l));
  });
}

}  // namespace

bool decode_comparison(const Statement& s, Names& names, Instruction& to) {
  if (s.opcode() == "setp" && s.parts.size() == 3)
    to.execute = comparison(s.type(), s.parts[1]);
  else if (s.opcode() == "selp")
    to.execute = is_wide(s.type()) ? select<u64> : select<u32>;
  else
    return false;
  for (const auto& group : s.operands)
    to.operands.push_back(names.operand(group[0], is_wide(s.type())));
  return to.execute != nullptr;
}

}  // namespace kquant::ptx
