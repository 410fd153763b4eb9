#include <limits>
#include <type_traits>

#include "gguf/cursor.hpp"
#include "gguf/value_type.hpp"
#include "kquant/gguf.hpp"

namespace kquant::gguf {
namespace {

// `size` numbers of type `type` at the start of `bytes`, converted one by one; nullopt for other
// types, too few bytes, or where convert() refuses one.
template <class To, class Convert>
std::optional<std::vector<To>> decode_numbers(ValueType type, std::uint64_t count,
                                              std::span<const std::byte> bytes,
                                              const Convert& convert) {
  const std::size_t size = fixed_size(type);
  if (size == 0 || count > bytes.size() / size) return std::nullopt;
  std::vector<To> out;
  bool good = true;
  const bool is_number = visit_number(type, [&]<class From>() {
    Cursor cursor(bytes);
    out.reserve(count);
    for (std::uint64_t i = 0; i < count && good; ++i) {
      const std::optional<To> value = convert(*cursor.read<From>());
      good = value.has_value();
      if (good) out.push_back(*value);
    }
  });
  if (!is_number || !good) return std::nullopt;
  return out;
}

constexpr auto kToInt = [](auto value) -> std::optional<std::int64_t> {
  using From = decltype(value);
  if constexpr (std::is_floating_point_v<From>) return std::nullopt;
  if constexpr (std::is_same_v<From, std::uint64_t>)
    if (value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) return std::nullopt;
  return static_cast<std::int64_t>(value);
};

template <class To>
constexpr auto kToFloating = [](auto value) -> std::optional<To> { return static_cast<To>(value); };

template <class T>
std::optional<T> first(std::optional<std::vector<T>> values) {
  if (!values) return std::nullopt;
  return values->front();
}

std::span<const std::byte> array_bytes(std::span<const std::byte> bytes) {
  return bytes.size() < kArrayHeader ? std::span<const std::byte>{} : bytes.subspan(kArrayHeader);
}

}  // namespace

std::string_view name(ValueType type) {
  switch (type) {
    case ValueType::U8:
      return "u8";
    case ValueType::I8:
      return "i8";
    case ValueType::U16:
      return "u16";
    case ValueType::I16:
      return "i16";
    case ValueType::U32:
      return "u32";
    case ValueType::I32:
      return "i32";
    case ValueType::F32:
      return "f32";
    case ValueType::Bool:
      return "bool";
    case ValueType::String:
      return "string";
    case ValueType::Array:
      return "array";
    case ValueType::U64:
      return "u64";
    case ValueType::I64:
      return "i64";
    case ValueType::F64:
      return "f64";
  }
  return "unknown";
}

Value make_value(ValueType type, std::span<const std::byte> encoded) {
  if (type != ValueType::Array) return Value(type, type, 1, encoded);
  Cursor cursor(encoded);
  const auto element_type = cursor.read<std::uint32_t>();
  const auto count = cursor.read<std::uint64_t>();
  return Value(type, ValueType{element_type.value_or(0)}, count.value_or(0), encoded);
}

std::optional<std::int64_t> Value::as_int() const {
  return first(decode_numbers<std::int64_t>(type_, 1, bytes_, kToInt));
}

std::optional<double> Value::as_float() const {
  return first(decode_numbers<double>(type_, 1, bytes_, kToFloating<double>));
}

std::optional<bool> Value::as_bool() const {
  if (type_ != ValueType::Bool || bytes_.empty()) return std::nullopt;
  return bytes_[0] != std::byte{0};
}

std::optional<std::string_view> Value::as_string() const {
  if (type_ != ValueType::String) return std::nullopt;
  return Cursor(bytes_).read_string();
}

std::optional<std::vector<std::string_view>> Value::as_strings() const {
  const std::span<const std::byte> bytes = array_bytes(bytes_);
  if (type_ != ValueType::Array || element_type_ != ValueType::String ||
      count_ > bytes.size() / sizeof(std::uint64_t))
    return std::nullopt;
  std::vector<std::string_view> out;
  out.reserve(count_);
  Cursor cursor(bytes);
  for (std::uint64_t i = 0; i < count_; ++i) {
    const auto text = cursor.read_string();
    if (!text) return std::nullopt;
    out.push_back(*text);
  }
  return out;
}

std::optional<std::vector<std::int64_t>> Value::as_ints() const {
  if (type_ != ValueType::Array) return std::nullopt;
  return decode_numbers<std::int64_t>(element_type_, count_, array_bytes(bytes_), kToInt);
}

std::optional<std::vector<float>> Value::as_floats() const {
  if (type_ != ValueType::Array) return std::nullopt;
  return decode_numbers<float>(element_type_, count_, array_bytes(bytes_), kToFloating<float>);
}

}  // namespace kquant::gguf
