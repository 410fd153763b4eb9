#include "kquant/eval/content_hash.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>
#include <vector>

namespace kquant {
namespace {
std::string hex(XXH128_hash_t hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}
}  // namespace

std::string content_hash(std::string_view text) {
  return hex(XXH3_128bits(text.data(), text.size()));
}

Result<std::string> file_hash(const std::filesystem::path& path) {
  const auto refused = [&] {
    return fail(ErrorCode::kIo, fmt::format("{}: cannot read: {}", path.string(),
                                            std::generic_category().message(errno)));
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  if (!file) return refused();
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  XXH3_128bits_reset(state.get());
  std::vector<char> buffer(1 << 20);
  std::size_t n = 0;
  while ((n = std::fread(buffer.data(), 1, buffer.size(), file.get())) > 0)
    XXH3_128bits_update(state.get(), buffer.data(), n);
  if (std::ferror(file.get()) != 0) return refused();
  return hex(XXH3_128bits_digest(state.get()));
}

}  // namespace kquant
