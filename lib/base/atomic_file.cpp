#include "kquant/base/atomic_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <string_view>
#include <system_error>
#include <utility>

namespace kquant {
namespace {

constexpr std::size_t kBufferBytes = 1 << 20;  // rows of small tensors gather into large writes
constexpr std::size_t kMostPerWrite = std::size_t{1} << 30;

std::string random_name() {
  static constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyz";
  std::random_device random;
  std::string name(6, '0');
  for (char& c : name) c = kLetters[random() % kLetters.size()];
  return name;
}

}  // namespace

tl::unexpected<Error> AtomicFile::refused(const std::string& what) const {
  const std::string reason = std::generic_category().message(errno);
  return fail(ErrorCode::kIo, fmt::format("{}: cannot {}: {}", path_.string(), what, reason));
}

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& path) {
  AtomicFile file;
  std::error_code no_such_file;
  file.path_ = std::filesystem::canonical(path, no_such_file);
  if (no_such_file) file.path_ = path;
  struct stat old {};
  const bool replaces = ::stat(file.path_.c_str(), &old) == 0;
  if (replaces && !S_ISREG(old.st_mode))
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: exists and is not a regular file", path.string()));

  // open() and not mkstemp(), whose 0600 could become "what the umask leaves" only by setting the
  // umask, which all threads share. A file to be replaced may be private: private from the start.
  const mode_t mode = replaces ? 0600 : 0666;
  do {
    file.temporary_ = file.path_.string() + "." + random_name() + ".tmp";
    file.descriptor_ =
        ::open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  } while (file.descriptor_ < 0 && (errno == EEXIST || errno == EINTR));
  if (file.descriptor_ < 0) {
    file.temporary_.clear();
    return file.refused("create a file beside it");
  }
  if (replaces && ::fchmod(file.descriptor_, old.st_mode & 07777) != 0)
    return file.refused("give the new file the old one's permissions");
  return file;
}

void AtomicFile::swap(AtomicFile& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(written_, other.written_);
  std::swap(buffer_, other.buffer_);
}

AtomicFile::~AtomicFile() {
  discard();
}

void AtomicFile::discard() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  descriptor_ = -1;
  temporary_.clear();
}

Result<void> AtomicFile::reserve(std::uint64_t size) {
#if defined(__linux__)
  int status = 0;
  do {
    status = ::fallocate(descriptor_, 0, 0, static_cast<off_t>(size));
  } while (status != 0 && errno == EINTR);
  if (status != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
    return refused(fmt::format("reserve {} bytes", size));
#else
  static_cast<void>(size);
#endif
  return {};
}

Result<void> AtomicFile::write(std::span<const std::byte> bytes) {
  if (buffer_.size() + bytes.size() > kBufferBytes) {
    if (const Result<void> flushed = flush(); !flushed) return flushed;
    if (bytes.size() >= kBufferBytes) return write_through(bytes);
  }
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  return {};
}

Result<void> AtomicFile::flush() {
  const Result<void> written = write_through(buffer_);
  buffer_.clear();
  return written;
}

Result<void> AtomicFile::write_through(std::span<const std::byte> bytes) {
  if (descriptor_ < 0)
    return fail(ErrorCode::kIo,
                fmt::format("{}: an earlier write failed, the unfinished file was removed",
                            path_.string()));
  while (!bytes.empty()) {
    const ssize_t n = ::write(descriptor_, bytes.data(), std::min(bytes.size(), kMostPerWrite));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const auto error = refused(fmt::format("write {} bytes at byte {}", bytes.size(), written_));
      discard();
      return error;
    }
    written_ += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Result<void> AtomicFile::commit() {
  if (const Result<void> flushed = flush(); !flushed) return flushed;
  if (::fsync(descriptor_) != 0) return refused("flush to disk");
  if (::close(std::exchange(descriptor_, -1)) != 0) return refused("close");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0)
    return refused("rename " + temporary_.string() + " to this name");
  temporary_.clear();

  // The new name is on disk once its folder is. Some file systems cannot flush a folder.
  const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return {};  // a folder may be written to and not read
  const bool flushed = ::fsync(descriptor) == 0 || errno == EINVAL;
  const auto error = refused("flush its folder to disk");
  ::close(descriptor);
  if (!flushed) return error;
  return {};
}

}  // namespace kquant
