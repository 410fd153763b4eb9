#include "eval/whole_file.hpp"

#include <fstream>
#include <iterator>
#include <span>

#include "kquant/base/atomic_file.hpp"

namespace kquant {

Result<std::string> read_whole(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(ErrorCode::kIo, path.string() + ": cannot read");
  return std::string{std::istreambuf_iterator<char>(in), {}};
}

Result<void> write_whole(const std::filesystem::path& path, std::string_view text) {
  auto file = AtomicFile::create(path);
  if (!file) return fail(file.error());
  if (auto written = file->write(std::as_bytes(std::span(text))); !written) return written;
  return file->commit();
}

}  // namespace kquant
