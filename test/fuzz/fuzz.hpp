#pragma once
// What the fuzz targets share: one input's bytes, and checks that end the process.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "kquant/base/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace kquant::fuzz {

/// Ends the process, which libFuzzer reports as a crash, where `good` does not hold.
inline void require(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

/// An error has a message, of one line.
inline void check(const Error& error) {
  require(!error.message.empty(), "errors have a message");
  require(error.message.find('\n') == std::string::npos, "error messages are one line");
}

inline std::span<const std::byte> as_bytes(const std::uint8_t* data, std::size_t size) {
  return std::as_bytes(std::span(data, size));
}

}  // namespace kquant::fuzz
