#pragma once
// Well-formed UTF-8, by the byte (Unicode Standard, table 3-7).

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace kquant::tokenizer {

/// Bytes of the code point that starts `text`; 0 where none does (a stray or overlong sequence, a
/// surrogate, or the end).
inline std::size_t utf8_length(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto continues = [&](std::size_t i, unsigned lowest = 0x80, unsigned highest = 0xBF) {
    return i < text.size() && byte(i) >= lowest && byte(i) <= highest;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  if (lead < 0xE0) return continues(1) ? 2 : 0;
  if (lead < 0xF0) {
    const bool second = lead == 0xE0   ? continues(1, 0xA0)
                        : lead == 0xED ? continues(1, 0x80, 0x9F)
                                       : continues(1);
    return second && continues(2) ? 3 : 0;
  }
  const bool second = lead == 0xF0   ? continues(1, 0x90)
                      : lead == 0xF4 ? continues(1, 0x80, 0x8F)
                                     : continues(1);
  return second && continues(2) && continues(3) ? 4 : 0;
}

/// Appends a code point below U+0800, which takes one or two bytes.
inline void append_short_utf8(std::string& out, std::uint32_t code_point) {
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
  } else {
    out += static_cast<char>(0xC0 | (code_point >> 6));
    out += static_cast<char>(0x80 | (code_point & 0x3F));
  }
}

}  // namespace kquant::tokenizer
