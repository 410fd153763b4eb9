#include "kquant/base/atomic_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace kquant {

namespace {

tl::unexpected<Error> io_error(const std::filesystem::path& path, const char* action) {
  return fail(ErrorCode::kIo,
              fmt::format("{}: cannot {}: {}", path.string(), action, std::strerror(errno)));
}

/// What a plain open() for writing would have given the file.
mode_t permissions_for(const std::filesystem::path& path) {
  struct stat existing {};
  if (::stat(path.c_str(), &existing) == 0) return existing.st_mode & 07777;
  const mode_t mask = ::umask(0);  // there is no way to only read it
  ::umask(mask);
  return 0666 & ~mask;
}

}  // namespace

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    return fail(ErrorCode::kIo, fmt::format("{}: cannot write: it is a folder", path.string()));
  AtomicFile file;
  file.path_ = path;
  file.temporary_ = path.string() + ".XXXXXX.tmp";
  file.descriptor_ = ::mkostemps(file.temporary_.data(), 4, O_CLOEXEC);
  if (file.descriptor_ < 0) {
    file.temporary_.clear();
    return io_error(path, "create a file beside it");
  }
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_) {}

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  if (this != &other) {
    discard();
    path_ = std::move(other.path_);
    temporary_ = std::exchange(other.temporary_, {});
    descriptor_ = std::exchange(other.descriptor_, -1);
    size_ = other.size_;
  }
  return *this;
}

AtomicFile::~AtomicFile() {
  discard();
}

void AtomicFile::discard() {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  if (!temporary_.empty()) ::unlink(std::exchange(temporary_, {}).c_str());
}

Result<void> AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(descriptor_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      return fail(ErrorCode::kIo, fmt::format("{}: cannot write after {} bytes: {}", path_.string(),
                                              size_, std::strerror(errno)));
    size_ += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Result<void> AtomicFile::commit() {
  if (::fchmod(descriptor_, permissions_for(path_)) != 0)
    return io_error(path_, "set its permissions");
  if (::fsync(descriptor_) != 0) return io_error(path_, "flush it to the disk");
  if (::close(std::exchange(descriptor_, -1)) != 0) return io_error(path_, "close it");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0)
    return io_error(path_, "rename a finished file over it");
  temporary_.clear();
  // The rename itself survives a power cut only once the folder is on the disk; a file system that
  // cannot do that is no reason to fail a file that is complete.
  const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
  if (const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); fd >= 0) {
    ::fsync(fd);
    ::close(fd);
  }
  return {};
}

}  // namespace kquant
