#pragma once
// Names for contents, by which results are kept apart: XXH3, 128 bits, in hexadecimal. No
// protection against forgery.

#include <filesystem>
#include <string>
#include <string_view>

#include "kquant/base/error.hpp"

namespace kquant {

std::string content_hash(std::string_view text);
/// Of a file's bytes. Errors: kIo.
Result<std::string> file_hash(const std::filesystem::path& path);

}  // namespace kquant
