#pragma once
// Models split over files NAME-00001-of-00003.gguf … NAME-00003-of-00003.gguf. Each says in its
// metadata which one it is (split.no, from 0), how many there are (split.count) and how many
// tensors they have together (split.tensors.count).

#include <cstdint>
#include <filesystem>
#include <optional>

#include "gguf/parse.hpp"
#include "kquant/base/error.hpp"

namespace kquant::gguf {

struct Split {
  std::uint32_t number = 0, count = 0;
  std::optional<std::uint64_t> tensors;
};

/// What the metadata of the file at `path` say; nullopt for a file that is not one of several.
/// Errors: kBadFile where they make no sense or the file's name does not fit them.
Result<std::optional<Split>> find_split(const std::filesystem::path& path,
                                        const MetadataTable& metadata);

/// Name of another file of the same split. `path` is one that find_split() accepted.
std::filesystem::path split_path(const std::filesystem::path& path, std::uint32_t number);

/// That `found` at `path` is file `number` of the split that `first` describes.
Result<void> check_part(const std::filesystem::path& path, const std::optional<Split>& found,
                        const Split& first, std::uint32_t number);

}  // namespace kquant::gguf
