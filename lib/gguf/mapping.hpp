#pragma once
// A file's contents as memory.

#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

#include "kquant/base/error.hpp"

namespace kquant::gguf {

/// Read-only memory map of a whole regular file. Move-only.
class Mapping {
 public:
  static Result<Mapping> open(const std::filesystem::path& path);
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping();

  std::span<const std::byte> bytes() const { return bytes_; }
  /// Lets whole pages within `part` leave memory; they come back from the file when read. Nothing
  /// where `part` is not of this mapping.
  void release(std::span<const std::byte> part) const;

 private:
  explicit Mapping(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

}  // namespace kquant::gguf
