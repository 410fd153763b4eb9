#include "gguf/mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace kquant::gguf {

Result<Mapping> Mapping::open(const std::filesystem::path& path) {
  const auto refused = [&](const char* what) {
    return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo,
                path.string() + ": cannot " + what + ": " + std::generic_category().message(errno));
  };
  // O_NONBLOCK: a FIFO must not hang the caller; it makes no difference to regular files.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return refused("open");
  struct stat status {};
  Result<Mapping> result = Mapping({});
  if (::fstat(fd, &status) != 0) {
    result = refused("stat");
  } else if (!S_ISREG(status.st_mode)) {
    result = fail(ErrorCode::kIo, path.string() + ": not a regular file");
  } else if (status.st_size > 0) {  // an empty map is not possible, and not needed
    const auto size = static_cast<std::size_t>(status.st_size);
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
      result = refused("map");
    else
      result = Mapping({static_cast<const std::byte*>(data), size});
  }
  ::close(fd);
  return result;
}

void Mapping::release(std::span<const std::byte> part) const {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = [](const std::byte* p) { return reinterpret_cast<std::uintptr_t>(p); };
  const std::uintptr_t first = address(bytes_.data()), last = first + bytes_.size();
  const std::uintptr_t from = address(part.data()), to = from + part.size();
  if (from < first || to > last) return;
  const std::uintptr_t begin = (from + page - 1) / page * page, end = to / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace kquant::gguf
