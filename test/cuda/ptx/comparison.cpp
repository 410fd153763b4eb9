// Predicates, and what is chosen by them.

#include "block.hpp"

namespace kquant::ptx {
namespace {

struct Compare {
  enum Kind { kEqual, kNot, kLess, kAtMost, kGreater, kAtLeast, kNan, kKinds };
  template <class T, Kind kKind, bool kOrUnordered>
  static void run(Block&, Warp& w, const Instruction& i, u32 active) {
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
  static Execute of(std::size_t kind, std::index_sequence<kAll...>) {
    static constexpr Execute executes[] = {run<T, static_cast<Kind>(kAll), kOrUnordered>...};
    return executes[kind];
  }
  static Execute of(Type type, const std::string& name) {
    static const std::map<std::string, Kind> kinds{
        {"eq", kEqual},   {"ne", kNot},     {"lt", kLess}, {"le", kAtMost},
        {"gt", kGreater}, {"ge", kAtLeast}, {"nan", kNan}};
    const bool or_unordered = name.size() == 3 && name.back() == 'u';
    const auto found = kinds.find(or_unordered ? name.substr(0, 2) : name);
    if (found == kinds.end()) return nullptr;
    constexpr auto kAll = std::make_index_sequence<kKinds>{};
    switch (type) {
      case Type::kU16:
        return of<u16, false>(found->second, kAll);
      case Type::kS16:
        return of<i16, false>(found->second, kAll);
      case Type::kU32:
        return of<u32, false>(found->second, kAll);
      case Type::kS32:
        return of<i32, false>(found->second, kAll);
      case Type::kU64:
        return of<u64, false>(found->second, kAll);
      case Type::kS64:
        return of<i64, false>(found->second, kAll);
      case Type::kF32:
        return or_unordered ? of<float, true>(found->second, kAll)
                            : of<float, false>(found->second, kAll);
      default:
        return nullptr;
    }
  }
};

template <class T>
void select(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    w.set<T>(i.operands[0], l, w.get<T>(i.operands[w.get<u32>(i.operands[3], l) != 0 ? 1 : 2], l));
  });
}

}  // namespace

bool decode_comparison(const Statement& s, Names& names, Instruction& to) {
  if (s.opcode() == "setp" && s.parts.size() == 3)
    to.execute = Compare::of(to.type, s.parts[1]);
  else if (s.opcode() == "selp")
    to.execute = is_wide(to.type) ? select<u64> : select<u32>;
  else
    return false;
  for (const auto& group : s.operands)
    to.operands.push_back(names.operand(group[0], is_wide(to.type)));
  return to.execute != nullptr;
}

}  // namespace kquant::ptx
