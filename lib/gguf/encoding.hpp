#pragma once
// Appends numbers and strings to bytes in GGUF's encoding. The counterpart of Cursor.

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace kquant::gguf {

using Bytes = std::vector<std::byte>;

inline void put_bytes(Bytes& out, std::span<const std::byte> bytes) {
  const std::size_t end = out.size();
  out.resize(end + bytes.size());
  std::ranges::copy(bytes, out.begin() + static_cast<std::ptrdiff_t>(end));
}

/// Little-endian as the host is (cursor.hpp asserts it).
template <class T>
void put_number(Bytes& out, T value) {
  put_bytes(out, std::as_bytes(std::span(&value, 1)));
}

inline void put_string(Bytes& out, std::string_view text) {
  put_number(out, std::uint64_t{text.size()});
  put_bytes(out, std::as_bytes(std::span(text)));
}

}  // namespace kquant::gguf
