#pragma once
// Reads little-endian numbers and strings from bytes; never past their end.

#include <bit>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

namespace kquant::gguf {

static_assert(std::endian::native == std::endian::little && sizeof(std::size_t) == 8,
              "GGUF is read in place: 64-bit little-endian hosts only");

class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes, std::size_t at = 0) : bytes_(bytes), at_(at) {}

  std::size_t at() const { return at_; }
  std::size_t remaining() const { return bytes_.size() - at_; }

  /// nullopt, without moving, where fewer bytes remain.
  template <class T>
  std::optional<T> read() {
    if (remaining() < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  std::optional<std::span<const std::byte>> take(std::uint64_t n) {
    if (n > remaining()) return std::nullopt;
    const std::span<const std::byte> taken = bytes_.subspan(at_, n);
    at_ += n;
    return taken;
  }

  /// A u64 length and that many bytes.
  std::optional<std::string_view> read_string() {
    const std::size_t start = at_;
    if (const auto length = read<std::uint64_t>())
      if (const auto text = take(*length))
        return std::string_view(reinterpret_cast<const char*>(text->data()), text->size());
    at_ = start;
    return std::nullopt;
  }

 private:
  std::span<const std::byte> bytes_;
  std::size_t at_;
};

}  // namespace kquant::gguf
