#pragma once
// A kernel as nvcc has compiled it, read from its PTX, for a machine that runs it without a GPU
// (block.hpp). Source: the PTX ISA reference, version 9.0. Only what kernels of this project use is
// known; all else is a Fault that names it.

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kquant::ptx {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

/// What a kernel does but must not, or what is not known here: the message says what and where.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Type : u8 {
  kNone,
  kPred,
  kU8,
  kS8,
  kU16,
  kS16,
  kU32,
  kS32,
  kU64,
  kS64,
  kF16,
  kF32,
  kF16x2,
  kBf16x2
};
enum class Space : u8 { kGeneric, kGlobal, kShared, kLocal, kParam };

/// Among the registers of 32 bits (predicates and 16 bits, too), or of 64. Immediates, special
/// registers and addresses of variables are registers that are written before a block begins: every
/// operand is one.
struct Register {
  u32 index = 0;
  bool wide = false;
};
inline constexpr u32 kNowhere = ~0u;  ///< index of `_`, which takes what nobody wants

struct Block;
struct Warp;
struct Instruction;
/// Does the work of an instruction for the lanes of `active`.
using Execute = void (*)(Block&, Warp&, const Instruction&, u32 active);

struct Instruction {
  enum class Flow : u8 { kNext, kBranch, kReturn };
  Execute execute = nullptr;  ///< null: nothing is to be done
  Flow flow = Flow::kNext;
  bool collective = false;  ///< waits until all lanes of the warp are here
  Space space = Space::kGeneric;
  int predicate = -1;  ///< index of a register; -1: always
  bool predicate_is_false = false;
  int target = -1;  ///< of a branch: index of an instruction
  i64 offset = 0;   ///< to be added to the address
  i64 from_offset = 0;
  u32 bytes = 0;        ///< that a lane reads or writes in memory
  bool copies = false;  ///< from device to shared memory; bytes = 0: as many as operand 2 says
  int line = 0;         ///< in the kernel's text
  std::vector<Register> operands;
};

struct Kernel {
  struct Parameter {
    u32 at = 0, bytes = 0;
  };
  struct Constant {
    Register to;
    u64 value = 0;
  };
  struct Special {
    Register to;
    std::string name;
  };
  std::string name;
  std::vector<Instruction> code;
  u32 narrow = 0, wide = 0;  ///< registers of 32 and 64 bits
  std::vector<Constant> constants;
  std::vector<Special> specials;
  std::vector<Register> local_addresses;  ///< of the thread's local memory
  std::vector<Parameter> parameters;
  u32 parameter_bytes = 0, local_bytes = 0;
  u32 most_threads = 0;  ///< 0: not said
};

/// The names that a kernel's instructions may use.
class Names {
 public:
  virtual ~Names() = default;
  /// The register of an operand; `wide` says how to read a number.
  virtual Register operand(std::string_view name, bool wide) = 0;
  /// The register of an address [name+offset], whose offset is added to `offset`.
  virtual Register address(std::string_view text, Space space, i64& offset) = 0;
};

/// opcode.part.part…  {a, b}, [c+4], d;
struct Statement {
  std::string text;
  std::vector<std::string> parts;                  ///< the opcode's
  std::vector<std::vector<std::string>> operands;  ///< each a vector of one or more
  std::vector<Type> types;                         ///< those among the parts

  const std::string& opcode() const { return parts[0]; }
  Type type() const { return types.empty() ? Type::kNone : types[0]; }
  bool has(std::string_view part) const;
  [[noreturn]] void unknown() const { throw Fault("not known here: " + text); }
};
bool is_wide(Type type);
u32 bytes_of(Type type);

/// make.operator()<T>() for the C++ type T of an integer in a register; null for other types.
template <class Make>
Execute for_integer(Type type, const Make& make) {
  switch (type) {
    case Type::kU16:
      return make.template operator()<u16>();
    case Type::kS16:
      return make.template operator()<i16>();
    case Type::kU32:
      return make.template operator()<u32>();
    case Type::kS32:
      return make.template operator()<i32>();
    case Type::kU64:
      return make.template operator()<u64>();
    case Type::kS64:
      return make.template operator()<i64>();
    default:
      return nullptr;
  }
}
/// … or binary32.
template <class Make>
Execute for_number(Type type, const Make& make) {
  return type == Type::kF32 ? make.template operator()<float>() : for_integer(type, make);
}
/// … or a byte: what memory and conversions have, too.
template <class Make>
Execute for_any_number(Type type, const Make& make) {
  if (type == Type::kU8) return make.template operator()<u8>();
  if (type == Type::kS8) return make.template operator()<i8>();
  return for_number(type, make);
}

/// Each says how one family of instructions is executed, or returns false: of another family.
bool decode_arithmetic(const Statement& statement, Names& names, Instruction& to);
bool decode_comparison(const Statement& statement, Names& names, Instruction& to);
bool decode_conversion(const Statement& statement, Names& names, Instruction& to);
bool decode_memory(const Statement& statement, Names& names, Instruction& to);
bool decode_collective(const Statement& statement, Names& names, Instruction& to);

/// Kernels are read when they are asked for.
class Module {
 public:
  /// All PTX of a program for one architecture, one module after the other.
  explicit Module(std::string text);
  const Kernel& kernel(const std::string& name);
  /// "sm_80".
  const std::string& target() const { return target_; }

 private:
  std::string text_, target_;
  std::map<std::string, std::pair<std::size_t, std::size_t>> places_;
  std::map<std::string, Kernel> kernels_;
};

}  // namespace kquant::ptx
