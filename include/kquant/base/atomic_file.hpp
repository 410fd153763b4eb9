#pragma once
// A file that appears whole or not at all.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "kquant/base/error.hpp"

namespace kquant {

/// Written beside its path, as PATH.XXXXXX.tmp, and renamed over it by commit(): after a crash, a
/// full disk or a destroyed AtomicFile the old file is still there, or none, never half of one.
/// Permissions are those of the file replaced, else those of the umask. Move-only.
class AtomicFile {
 public:
  /// Where `path` is a symbolic link, the file it points to is replaced. Errors: kInvalidArgument
  /// (`path` is something else than a regular file), kIo.
  static Result<AtomicFile> create(const std::filesystem::path& path);
  AtomicFile(AtomicFile&& other) noexcept { swap(other); }
  AtomicFile& operator=(AtomicFile&& other) noexcept {
    swap(other);
    return *this;
  }
  ~AtomicFile();  ///< without commit(): removes the unfinished file

  /// Reserves `size` bytes of disk, where the file system can. Errors: kIo.
  Result<void> reserve(std::uint64_t size);
  /// Errors: kIo; the unfinished file is removed then.
  Result<void> write(std::span<const std::byte> bytes);
  /// Flushes to disk, then renames. Nothing may be written after.
  Result<void> commit();

 private:
  AtomicFile() = default;
  void swap(AtomicFile& other) noexcept;
  Result<void> flush();
  Result<void> write_through(std::span<const std::byte> bytes);
  void discard();
  tl::unexpected<Error> refused(const std::string& what) const;  ///< says why, from errno

  std::filesystem::path path_;
  std::filesystem::path temporary_;  ///< empty: nothing to remove
  int descriptor_ = -1;
  std::uint64_t written_ = 0;
  std::vector<std::byte> buffer_;
};

}  // namespace kquant
