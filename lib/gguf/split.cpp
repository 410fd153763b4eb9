#include "gguf/split.hpp"

#include <fmt/format.h>

namespace kquant::gguf {
namespace {

constexpr std::size_t kSuffixBytes = std::string_view("-00001-of-00003.gguf").size();
constexpr std::int64_t kMostFiles = 99999;  // what five digits can count

std::string suffix(std::uint32_t number, std::uint32_t count) {
  return fmt::format("-{:05d}-of-{:05d}.gguf", number + 1, count);
}

}  // namespace

Result<std::optional<Split>> find_split(const std::filesystem::path& path,
                                        const MetadataTable& metadata) {
  // An integer key from lowest to highest; nullopt where it is absent.
  const auto integer = [&](std::string_view key, std::int64_t lowest,
                           std::int64_t highest) -> Result<std::optional<std::int64_t>> {
    const std::optional<Value> value = metadata.find(key);
    if (!value) return std::nullopt;
    const std::optional<std::int64_t> number = value->as_int();
    if (!number || *number < lowest || *number > highest)
      return fail(ErrorCode::kBadFile,
                  fmt::format("{}: key '{}': expected an integer from {} to {}, found {}",
                              path.string(), key, lowest, highest,
                              number ? std::to_string(*number) : std::string(name(value->type()))));
    return number;
  };

  const auto count = integer("split.count", 0, kMostFiles);
  if (!count) return fail(count.error());
  if (!*count || **count < 2) return std::nullopt;
  const auto number = integer("split.no", 0, **count - 1);
  if (!number) return fail(number.error());
  if (!*number)
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: key 'split.no': not in the file, though 'split.count' is {}",
                            path.string(), **count));
  const auto tensors = integer("split.tensors.count", 0, static_cast<std::int64_t>(kMaxCount));
  if (!tensors) return fail(tensors.error());

  Split split{static_cast<std::uint32_t>(**number), static_cast<std::uint32_t>(**count), {}};
  if (*tensors) split.tensors = static_cast<std::uint64_t>(**tensors);
  const std::string wanted = suffix(split.number, split.count);
  if (!path.string().ends_with(wanted))
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: file {} of {} of a split model; expected a name that ends in '{}'",
                            path.string(), split.number + 1, split.count, wanted));
  return split;
}

std::filesystem::path split_path(const std::filesystem::path& path, std::uint32_t number) {
  const std::string text = path.string();
  const std::string_view count = std::string_view(text).substr(text.size() - 10, 5);
  return text.substr(0, text.size() - kSuffixBytes) +
         fmt::format("-{:05d}-of-{}.gguf", number + 1, count);
}

Result<void> check_part(const std::filesystem::path& path, const std::optional<Split>& found,
                        const Split& first, std::uint32_t number) {
  if (!found)
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: key 'split.count': expected {}; the file is not part of a split",
                            path.string(), first.count));
  if (found->number != number)
    return fail(ErrorCode::kBadFile, fmt::format("{}: key 'split.no': expected {}, found {}",
                                                 path.string(), number, found->number));
  if (found->count != first.count)
    return fail(ErrorCode::kBadFile, fmt::format("{}: key 'split.count': expected {}, found {}",
                                                 path.string(), first.count, found->count));
  if (found->tensors != first.tensors)
    return fail(
        ErrorCode::kBadFile,
        fmt::format("{}: key 'split.tensors.count': differs from the first file's", path.string()));
  return {};
}

}  // namespace kquant::gguf
