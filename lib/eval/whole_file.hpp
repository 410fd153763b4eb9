#pragma once
// Files that are read and written as one string.

#include <filesystem>
#include <string>
#include <string_view>

#include "kquant/base/error.hpp"

namespace kquant {

/// Errors: kIo.
Result<std::string> read_whole(const std::filesystem::path& path);
/// Atomically. Errors: kIo.
Result<void> write_whole(const std::filesystem::path& path, std::string_view text);

}  // namespace kquant
