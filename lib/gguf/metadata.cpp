#include <algorithm>

#include "gguf/encoding.hpp"
#include "gguf/value_type.hpp"
#include "kquant/gguf.hpp"

namespace kquant::gguf {
namespace {

template <class T>
Bytes encode_number(T value) {
  Bytes out;
  put_number(out, value);
  return out;
}

template <class T>
Bytes encode_array(ValueType element_type, std::span<const T> values) {
  Bytes out;
  out.reserve(kArrayHeader + values.size_bytes());
  put_number(out, static_cast<std::uint32_t>(element_type));
  put_number(out, std::uint64_t{values.size()});
  if constexpr (std::is_same_v<T, std::string>)
    for (const std::string& text : values) put_string(out, text);
  else
    put_bytes(out, std::as_bytes(values));
  return out;
}

}  // namespace

Metadata Metadata::copy_of(const File& file) {
  Metadata copy;
  copy.entries_.reserve(file.metadata_count());
  for (std::size_t i = 0; i < file.metadata_count(); ++i) {
    if (file.key(i).starts_with("split.")) continue;
    const Value value = file.value(i);
    copy.entries_.push_back({std::string(file.key(i)), value.type(),
                             Bytes(value.bytes().begin(), value.bytes().end())});
  }
  return copy;
}

void Metadata::put(std::string_view key, ValueType type, Bytes bytes) {
  const auto old = std::find_if(entries_.begin(), entries_.end(),
                                [&](const Entry& entry) { return entry.key == key; });
  if (old == entries_.end())
    entries_.push_back({std::string(key), type, std::move(bytes)});
  else
    *old = {std::string(key), type, std::move(bytes)};
}

void Metadata::set(std::string_view key, const Value& value) {
  put(key, value.type(), Bytes(value.bytes().begin(), value.bytes().end()));
}
void Metadata::set_u32(std::string_view key, std::uint32_t value) {
  put(key, ValueType::U32, encode_number(value));
}
void Metadata::set_u64(std::string_view key, std::uint64_t value) {
  put(key, ValueType::U64, encode_number(value));
}
void Metadata::set_i32(std::string_view key, std::int32_t value) {
  put(key, ValueType::I32, encode_number(value));
}
void Metadata::set_f32(std::string_view key, float value) {
  put(key, ValueType::F32, encode_number(value));
}
void Metadata::set_bool(std::string_view key, bool value) {
  put(key, ValueType::Bool, encode_number(std::uint8_t{value}));
}
void Metadata::set_string(std::string_view key, std::string_view value) {
  Bytes out;
  put_string(out, value);
  put(key, ValueType::String, std::move(out));
}
void Metadata::set_strings(std::string_view key, std::span<const std::string> values) {
  put(key, ValueType::Array, encode_array(ValueType::String, values));
}
void Metadata::set_ints(std::string_view key, std::span<const std::int32_t> values) {
  put(key, ValueType::Array, encode_array(ValueType::I32, values));
}
void Metadata::set_floats(std::string_view key, std::span<const float> values) {
  put(key, ValueType::Array, encode_array(ValueType::F32, values));
}

bool Metadata::erase(std::string_view key) {
  return std::erase_if(entries_, [&](const Entry& entry) { return entry.key == key; }) > 0;
}

Value Metadata::value(std::size_t i) const {
  return make_value(entries_[i].type, entries_[i].bytes);
}

std::optional<Value> Metadata::find(std::string_view key) const {
  for (std::size_t i = 0; i < size(); ++i)
    if (entries_[i].key == key) return value(i);
  return std::nullopt;
}

}  // namespace kquant::gguf
