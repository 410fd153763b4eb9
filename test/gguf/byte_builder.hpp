#pragma once
// GGUF files byte by byte, so that tests can write what no writer would.

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kquant/gguf.hpp"

namespace kquant::test {

class ByteBuilder {
 public:
  template <class T>
  ByteBuilder& number(T value) {
    return raw(std::as_bytes(std::span(&value, 1)));
  }
  ByteBuilder& u8(std::uint8_t v) { return number(v); }
  ByteBuilder& u32(std::uint32_t v) { return number(v); }
  ByteBuilder& u64(std::uint64_t v) { return number(v); }
  ByteBuilder& text(std::string_view t) { return raw(std::as_bytes(std::span(t))); }
  ByteBuilder& string(std::string_view t) { return u64(t.size()).text(t); }
  ByteBuilder& raw(std::span<const std::byte> b) {
    bytes_.insert(bytes_.end(), b.begin(), b.end());
    return *this;
  }

  ByteBuilder& header(std::uint64_t tensors, std::uint64_t metadata, std::uint32_t version = 3) {
    return text("GGUF").u32(version).u64(tensors).u64(metadata);
  }
  ByteBuilder& key(std::string_view k, gguf::ValueType type) {
    return string(k).u32(static_cast<std::uint32_t>(type));
  }
  ByteBuilder& array(std::string_view k, gguf::ValueType element_type, std::uint64_t count) {
    return key(k, gguf::ValueType::Array).u32(static_cast<std::uint32_t>(element_type)).u64(count);
  }
  ByteBuilder& tensor(std::string_view name, const std::vector<std::uint64_t>& shape,
                      std::uint32_t type, std::uint64_t offset) {
    string(name).u32(static_cast<std::uint32_t>(shape.size()));
    for (const std::uint64_t d : shape) u64(d);
    return u32(type).u64(offset);
  }
  ByteBuilder& pad(std::size_t alignment) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  ByteBuilder& zeros(std::size_t count) {
    bytes_.resize(bytes_.size() + count);
    return *this;
  }

  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// A copy on the heap with not one byte more, so that a sanitizer sees every read beyond its end.
class ExactBytes {
 public:
  explicit ExactBytes(std::span<const std::byte> bytes)
      : data_(new std::byte[bytes.size()]), size_(bytes.size()) {
    std::copy(bytes.begin(), bytes.end(), data_.get());
  }
  std::span<std::byte> span() { return {data_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> data_;
  std::size_t size_;
};

/// Reads every key, value and byte of tensor data that `file` offers.
std::uint64_t read_everything(const gguf::File& file);

}  // namespace kquant::test
