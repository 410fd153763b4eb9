#include "kquant/base/error.hpp"

#include <fmt/format.h>

namespace kquant {

Error::Error(ErrorCode error_code, std::string_view text) : code(error_code) {
  message.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n')
      message += "\\n";
    else if (byte < 0x20 || byte == 0x7f)
      message += fmt::format("\\x{:02x}", byte);
    else
      message += c;
  }
}

}  // namespace kquant
