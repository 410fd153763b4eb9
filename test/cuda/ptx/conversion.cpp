// From one type to another. From a float to an integer: what is too large becomes the largest, NaN
// 0.

#include <cmath>
#include <limits>

#include "block.hpp"
#include "half.hpp"

namespace kquant::ptx {
namespace {

enum class Rounding { kNearest, kToZero, kDown };

template <class To, class From, Rounding kRounding>
void convert(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    const From x = w.get<From>(i.operands[1], l);
    if constexpr (!std::is_floating_point_v<From>) {
      w.set<To>(i.operands[0], l, static_cast<To>(x));
    } else {
      const float whole = kRounding == Rounding::kToZero ? std::trunc(x)
                          : kRounding == Rounding::kDown ? std::floor(x)
                                                         : std::nearbyint(x);
      using Limits = std::numeric_limits<To>;
      if constexpr (std::is_floating_point_v<To>)
        w.set<To>(i.operands[0], l, whole);
      else if (std::isnan(x))
        w.set<To>(i.operands[0], l, To{0});
      else if (whole <= static_cast<double>(Limits::min()))
        w.set<To>(i.operands[0], l, Limits::min());
      else if (whole >= static_cast<double>(Limits::max()))
        w.set<To>(i.operands[0], l, Limits::max());
      else
        w.set<To>(i.operands[0], l, static_cast<To>(whole));
    }
  });
}
template <class From, Rounding kRounding = Rounding::kNearest>
Execute conversion_from(Type to) {
  return for_any_number(to, []<class To>() -> Execute { return convert<To, From, kRounding>; });
}
template <u16 (*kConvert)(float)>
void convert_pair(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    w.set<u32>(i.operands[0], l,
               u32{kConvert(w.get<float>(i.operands[1], l))} << 16 |
                   kConvert(w.get<float>(i.operands[2], l)));
  });
}
void half_of_float(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    w.set<u32>(i.operands[0], l, float_to_half(w.get<float>(i.operands[1], l)));
  });
}
void float_of_half(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    w.set<float>(i.operands[0], l, half_to_float(w.get<u16>(i.operands[1], l)));
  });
}
Execute conversion(const Statement& s, Type to, Type from) {
  if (s.has("sat")) return nullptr;
  if (from == Type::kF32) {
    if (to == Type::kF16) return s.has("rn") ? half_of_float : nullptr;
    if (to == Type::kF16x2) return s.has("rn") ? convert_pair<float_to_half> : nullptr;
    if (to == Type::kBf16x2) return s.has("rn") ? convert_pair<float_to_bfloat> : nullptr;
    if (s.has("rzi")) return conversion_from<float, Rounding::kToZero>(to);
    if (s.has("rmi")) return conversion_from<float, Rounding::kDown>(to);
    return s.has("rni") ? conversion_from<float>(to) : nullptr;
  }
  if (from == Type::kF16) return to == Type::kF32 ? float_of_half : nullptr;
  return for_any_number(from, [&]<class From>() { return conversion_from<From>(to); });
}

}  // namespace

bool decode_conversion(const Statement& s, Names& names, Instruction& to) {
  if (s.opcode() != "cvt" || s.types.size() != 2) return false;
  to.execute = conversion(s, s.types[0], s.types[1]);
  for (const auto& group : s.operands)
    to.operands.push_back(names.operand(group[0], is_wide(s.types[1])));
  return to.execute != nullptr;
}

}  // namespace kquant::ptx
