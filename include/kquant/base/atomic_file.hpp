#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "kquant/base/error.hpp"

namespace kquant {

/// A file that appears whole or not at all. It is written under a temporary name beside `path`
/// (PATH.XXXXXX.tmp) and renamed over it by commit(): after a crash, a full disk or a destroyed
/// AtomicFile the old file is still there, or none, never half of one.
class AtomicFile {
 public:
  /// Errors: kIo (the folder is missing or not writable, `path` is a folder).
  static Result<AtomicFile> create(const std::filesystem::path& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();  ///< without commit(): removes the unfinished file

  /// Appends. Errors: kIo, with the path and how many bytes were written before.
  Result<void> write(std::span<const std::byte> bytes);
  std::uint64_t size() const { return size_; }

  /// Flushes to the disk and renames; the object is spent then. An existing file's permissions are
  /// kept, a new file gets those of the umask.
  Result<void> commit();

 private:
  AtomicFile() = default;
  void discard();
  std::filesystem::path path_;
  std::string temporary_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace kquant
