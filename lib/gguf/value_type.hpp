#pragma once
// The value types of GGUF metadata, as C++ types.

#include <cstddef>
#include <cstdint>

#include "kquant/gguf.hpp"

namespace kquant::gguf {

/// Calls fn.operator()<T>() with the C++ type of a number; false for bool, string, array and ids
/// that do not exist.
template <class Fn>
constexpr bool visit_number(ValueType type, Fn&& fn) {
  const auto with = [&]<class T>() { return fn.template operator()<T>(), true; };
  switch (type) {
    case ValueType::U8:
      return with.template operator()<std::uint8_t>();
    case ValueType::I8:
      return with.template operator()<std::int8_t>();
    case ValueType::U16:
      return with.template operator()<std::uint16_t>();
    case ValueType::I16:
      return with.template operator()<std::int16_t>();
    case ValueType::U32:
      return with.template operator()<std::uint32_t>();
    case ValueType::I32:
      return with.template operator()<std::int32_t>();
    case ValueType::F32:
      return with.template operator()<float>();
    case ValueType::U64:
      return with.template operator()<std::uint64_t>();
    case ValueType::I64:
      return with.template operator()<std::int64_t>();
    case ValueType::F64:
      return with.template operator()<double>();
    case ValueType::Bool:
    case ValueType::String:
    case ValueType::Array:
      break;
  }
  return false;
}

/// Bytes of a number or bool; 0 for strings, arrays and ids that do not exist.
constexpr std::size_t fixed_size(ValueType type) {
  if (type == ValueType::Bool) return 1;
  std::size_t size = 0;
  visit_number(type, [&]<class T>() { size = sizeof(T); });
  return size;
}

/// An array's encoding starts with its element type (u32) and count (u64).
inline constexpr std::size_t kArrayHeader = 12;

/// The value with this encoding.
Value make_value(ValueType type, std::span<const std::byte> encoded);

}  // namespace kquant::gguf
