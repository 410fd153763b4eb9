// What each lane does by itself, on registers.

#include <algorithm>
#include <cmath>
#include <limits>

#include "block.hpp"
#include "half.hpp"

namespace kquant::ptx {
namespace {

// d = F(a, b, c) of as many operands as there are, all of type T.
template <class F, class T>
void apply(Block&, Warp& w, const Instruction& i, u32 active) {
  const Register* const o = i.operands.data();
  lanes(active, [&](u32 l) {
    if constexpr (std::is_invocable_v<F, T>)
      w.set<T>(o[0], l, F{}(w.get<T>(o[1], l)));
    else if constexpr (std::is_invocable_v<F, T, T>)
      w.set<T>(o[0], l, F{}(w.get<T>(o[1], l), w.get<T>(o[2], l)));
    else
      w.set<T>(o[0], l, F{}(w.get<T>(o[1], l), w.get<T>(o[2], l), w.get<T>(o[3], l)));
  });
}

/// Two halves in a register, each rounded once.
template <class F>
void apply_halves(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    const auto operand = [&](std::size_t n, int half) {
      return n < i.operands.size()
                 ? double{half_to_float(w.get<u32>(i.operands[n], l) >> 16 * half & 0xffff)}
                 : 0.0;
    };
    u32 result = 0;
    for (int half = 0; half < 2; ++half)
      result |= u32{double_to_half(F{}(operand(1, half), operand(2, half), operand(3, half)))}
                << 16 * half;
    w.set<u32>(i.operands[0], l, result);
  });
}

template <class F>
Execute of_integers(Type type) {
  return for_integer(type, []<class T>() -> Execute { return apply<F, T>; });
}
template <class F>
Execute of_numbers(Type type) {
  return for_number(type, []<class T>() -> Execute { return apply<F, T>; });
}
template <class F>
Execute of_bits(Type type) {
  return type == Type::kPred ? apply<F, u32> : of_integers<F>(type);
}
template <class F>
Execute of_floats(Type type) {
  return type == Type::kF32 ? apply<F, float> : nullptr;
}

// Integers wrap around: they are computed without a sign.
template <class T>
using Wrapping = std::conditional_t<std::is_floating_point_v<T>, T, u64>;

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(Wrapping<T>(a) + Wrapping<T>(b));
  }
};
struct Sub {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(Wrapping<T>(a) - Wrapping<T>(b));
  }
};
struct Mul {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(Wrapping<T>(a) * Wrapping<T>(b));
  }
};
struct MultiplyAdd {
  template <class T>
  T operator()(T a, T b, T c) const {
    if constexpr (std::is_floating_point_v<T>)
      return std::fma(a, b, c);
    else
      return static_cast<T>(u64(a) * u64(b) + u64(c));
  }
};
struct Div {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (!std::is_floating_point_v<T>)
      if (b == 0) throw Fault("division by 0");
    return static_cast<T>(a / b);
  }
};
struct Rem {
  template <class T>
  T operator()(T a, T b) const {
    if (b == 0) throw Fault("division by 0");
    return static_cast<T>(a % b);
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>)
      return std::fmin(a, b);
    else
      return std::min(a, b);
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_floating_point_v<T>)
      return std::fmax(a, b);
    else
      return std::max(a, b);
  }
};
struct Neg {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(std::is_floating_point_v<T> ? -a : Sub{}(T{0}, a));
  }
};
struct Abs {
  template <class T>
  T operator()(T a) const {
    if constexpr (std::is_floating_point_v<T>)
      return std::fabs(a);
    else
      return a < T{0} ? Neg{}(a) : a;
  }
};
struct And {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a & b);
  }
};
struct Or {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a | b);
  }
};
struct Xor {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a ^ b);
  }
};
struct Not {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(~a);
  }
};
struct NotPredicate {
  u32 operator()(u32 a) const { return a == 0; }
};
struct Copy {
  template <class T>
  T operator()(T a) const {
    return a;
  }
};
struct Reciprocal {
  float operator()(float a) const { return 1.0f / a; }
};
struct SquareRoot {
  float operator()(float a) const { return std::sqrt(a); }
};
/// .ftz
struct PowerOf2 {
  float operator()(float a) const {
    const float x = std::exp2(a);
    return x < std::numeric_limits<float>::min() ? 0.0f : x;
  }
};
/// Byte n of the eight in b:a, for each nibble n of the selector; with 8 in it, that byte's sign.
struct Permute {
  u32 operator()(u32 a, u32 b, u32 selector) const {
    const u64 bytes = a | u64{b} << 32;
    u32 result = 0;
    for (int i = 0; i < 4; ++i) {
      const u32 n = selector >> 4 * i & 15;
      u32 byte = static_cast<u32>(bytes >> 8 * (n & 7)) & 0xff;
      if ((n & 8) != 0) byte = byte >= 0x80 ? 0xff : 0;
      result |= byte << 8 * i;
    }
    return result;
  }
};

template <class T, bool kLeft>
void shift(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    const T a = w.get<T>(i.operands[1], l);
    const u32 most = 8 * sizeof(T) - 1, n = w.get<u32>(i.operands[2], l);
    if constexpr (kLeft)
      w.set<T>(i.operands[0], l, n > most ? T{0} : static_cast<T>(u64(a) << n));
    else
      w.set<T>(i.operands[0], l,
               n > most ? static_cast<T>(a < T{0} ? -1 : 0) : static_cast<T>(a >> n));
  });
}
template <bool kLeft>
Execute shift_of(Type type) {
  return for_integer(type, []<class T>() -> Execute { return shift<T, kLeft>; });
}

template <class From, class To>
void multiply_wide(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    w.set<To>(
        i.operands[0], l,
        static_cast<To>(To{w.get<From>(i.operands[1], l)} * To{w.get<From>(i.operands[2], l)}));
  });
}
Execute wide_product(Type type) {
  switch (type) {
    case Type::kU16:
      return multiply_wide<u16, u32>;
    case Type::kS16:
      return multiply_wide<i16, i32>;
    case Type::kU32:
      return multiply_wide<u32, u64>;
    case Type::kS32:
      return multiply_wide<i32, i64>;
    default:
      return nullptr;
  }
}

/// Any function of three bits: bit abc of the table, for each of 32.
void lop3(Block&, Warp& w, const Instruction& i, u32 active) {
  const u32 table = w.uniform(i.operands[4], active);
  lanes(active, [&](u32 l) {
    const u32 a = w.get<u32>(i.operands[1], l), b = w.get<u32>(i.operands[2], l),
              c = w.get<u32>(i.operands[3], l);
    u32 result = 0;
    for (u32 n = 0; n < 8; ++n)
      if ((table >> n & 1) != 0)
        result |= ((n & 4) != 0 ? a : ~a) & ((n & 2) != 0 ? b : ~b) & ((n & 1) != 0 ? c : ~c);
    w.set<u32>(i.operands[0], l, result);
  });
}

/// `bits` bits of a at `from` of b.
void insert_bits(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    const u32 from = w.get<u8>(i.operands[3], l), bits = w.get<u8>(i.operands[4], l);
    const u64 mask = ((u64{1} << std::min(bits, 32u)) - 1) << std::min(from, 32u);
    w.set<u32>(i.operands[0], l,
               static_cast<u32>((w.get<u32>(i.operands[2], l) & ~mask) |
                                (u64{w.get<u32>(i.operands[1], l)} << std::min(from, 32u) & mask)));
  });
}

/// mov.b32 d, {low, high}
void join_halves(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    w.set<u32>(i.operands[0], l,
               w.get<u16>(i.operands[1], l) | u32{w.get<u16>(i.operands[2], l)} << 16);
  });
}
/// mov.b32 {low, high}, a
void split_halves(Block&, Warp& w, const Instruction& i, u32 active) {
  lanes(active, [&](u32 l) {
    const u32 both = w.get<u32>(i.operands[2], l);
    if (i.operands[0].index != kNowhere) w.set<u32>(i.operands[0], l, both & 0xffff);
    if (i.operands[1].index != kNowhere) w.set<u32>(i.operands[1], l, both >> 16);
  });
}

struct HalfAdd {
  double operator()(double a, double b, double) const { return a + b; }
};
struct HalfSub {
  double operator()(double a, double b, double) const { return a - b; }
};
struct HalfMul {
  double operator()(double a, double b, double) const { return a * b; }
};
struct HalfFma {
  double operator()(double a, double b, double c) const { return a * b + c; }
};

template <class OfHalves, class OfNumbers>
Execute of_halves_or_numbers(Type type) {
  return type == Type::kF16x2 ? apply_halves<OfHalves> : of_numbers<OfNumbers>(type);
}

Execute execute_of(const Statement& s) {
  const Type type = s.type();
  using OfType = Execute (*)(Type);
  static const std::map<std::string_view, OfType> by_type{
      {"add", of_halves_or_numbers<HalfAdd, Add>},
      {"sub", of_halves_or_numbers<HalfSub, Sub>},
      {"fma", of_halves_or_numbers<HalfFma, MultiplyAdd>},
      {"div", of_numbers<Div>},
      {"rem", of_integers<Rem>},
      {"min", of_numbers<Min>},
      {"max", of_numbers<Max>},
      {"neg", of_numbers<Neg>},
      {"abs", of_numbers<Abs>},
      {"and", of_bits<And>},
      {"or", of_bits<Or>},
      {"xor", of_bits<Xor>},
      {"shl", shift_of<true>},
      {"shr", shift_of<false>},
      {"ex2", of_floats<PowerOf2>},
      {"rcp", of_floats<Reciprocal>},
      {"sqrt", of_floats<SquareRoot>}};
  if (const auto found = by_type.find(s.opcode()); found != by_type.end())
    return found->second(type);
  if (s.opcode() == "mul")
    return s.has("wide") ? wide_product(type)
           : s.has("hi") ? nullptr
                         : of_halves_or_numbers<HalfMul, Mul>(type);
  if (s.opcode() == "mad") return s.has("lo") ? of_integers<MultiplyAdd>(type) : nullptr;
  if (s.opcode() == "not")
    return type == Type::kPred ? apply<NotPredicate, u32> : of_integers<Not>(type);
  if (s.opcode() == "prmt") return apply<Permute, u32>;
  if (s.opcode() == "lop3") return lop3;
  if (s.opcode() == "bfi") return type == Type::kU32 ? insert_bits : nullptr;
  if (s.opcode() == "cvta") return apply<Copy, u64>;  // an address is the same in every space
  if (s.opcode() == "mov") {
    if (s.operands.at(0).size() == 2) return type == Type::kU32 ? split_halves : nullptr;
    if (s.operands.at(1).size() == 2) return type == Type::kU32 ? join_halves : nullptr;
    return is_wide(type) ? apply<Copy, u64> : apply<Copy, u32>;
  }
  return nullptr;
}

}  // namespace

bool decode_arithmetic(const Statement& s, Names& names, Instruction& to) {
  to.execute = execute_of(s);
  if (to.execute == nullptr) return false;
  const bool is_shift = s.opcode() == "shl" || s.opcode() == "shr";
  for (const auto& group : s.operands)
    for (const std::string& name : group) {
      const bool is_number_of_bits = is_shift && to.operands.size() == 2;
      to.operands.push_back(names.operand(name, is_wide(s.type()) && !is_number_of_bits));
    }
  return true;
}

}  // namespace kquant::ptx
