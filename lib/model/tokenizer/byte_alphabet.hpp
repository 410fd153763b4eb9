#pragma once
// GPT-2's byte alphabet: byte-level BPE vocabularies spell each byte as one printable code point.
// Printable Latin-1 bytes stand for themselves; the 68 others become U+0100, U+0101, ... in order
// (space is U+0120 'Ġ', newline U+010A 'Ċ').

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "model/tokenizer/utf8.hpp"

namespace kquant::tokenizer {

class ByteAlphabet {
 public:
  constexpr ByteAlphabet() {
    std::uint16_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
      const auto code_point = printable ? static_cast<std::uint16_t>(byte) : next++;
      code_points_[byte] = code_point;
      bytes_[code_point] = static_cast<std::int16_t>(byte);
    }
  }

  /// Appends the letter of `byte` as UTF-8.
  void append_letter(std::string& out, unsigned char byte) const {
    append_short_utf8(out, code_points_[byte]);
  }

  std::string spell(std::string_view bytes) const {
    std::string out;
    for (const char byte : bytes) append_letter(out, static_cast<unsigned char>(byte));
    return out;
  }

  /// Letters back to bytes; code points that are no letters of the alphabet stay as they are.
  std::string bytes_of(std::string_view letters) const {
    std::string out;
    while (!letters.empty()) {
      const std::size_t length = std::max<std::size_t>(utf8_length(letters), 1);
      const int byte = byte_of(letters.substr(0, length));
      if (byte >= 0) {
        out += static_cast<char>(byte);
      } else {
        out += letters.substr(0, length);
      }
      letters.remove_prefix(length);
    }
    return out;
  }

 private:
  int byte_of(std::string_view letter) const {
    const auto at = [&](std::size_t i) {
      return static_cast<unsigned>(static_cast<unsigned char>(letter[i]));
    };
    if (letter.size() > 2) return -1;
    const unsigned code_point = letter.size() == 1 ? at(0) : (at(0) & 0x1F) << 6 | (at(1) & 0x3F);
    if (letter.size() == 1 && code_point >= 0x80) return -1;  // a stray byte
    return code_point < bytes_.size() ? bytes_[code_point] : -1;
  }

  static constexpr std::size_t kLetters = 0x100 + 68;
  static constexpr std::array<std::int16_t, kLetters> none() {
    std::array<std::int16_t, kLetters> bytes{};
    for (auto& byte : bytes) byte = -1;
    return bytes;
  }
  std::array<std::uint16_t, 256> code_points_{};
  std::array<std::int16_t, kLetters> bytes_ = none();
};

inline constexpr ByteAlphabet kByteAlphabet;

}  // namespace kquant::tokenizer
