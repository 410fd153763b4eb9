#pragma once
// One GGUF file's bytes, checked and indexed. What is kept are positions in the bytes, not copies.

#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gguf/name_index.hpp"
#include "kquant/gguf.hpp"

namespace kquant::gguf {

inline constexpr std::uint64_t kDefaultAlignment = 32;
inline constexpr std::uint64_t kMinAlignment = 8;  ///< the specification: a multiple of 8
inline constexpr std::uint64_t kMaxAlignment = 64 * 1024;
inline constexpr std::uint64_t kMaxCount = std::uint64_t{1} << 30;  ///< of strings and arrays
inline constexpr std::size_t kMaxKeyBytes = 65535;
inline constexpr std::size_t kMaxTensorNameBytes = 63;
inline constexpr std::string_view kAlignmentKey = "general.alignment";

constexpr bool is_alignment(std::uint64_t n) {
  return std::has_single_bit(n) && n >= kMinAlignment && n <= kMaxAlignment;
}

/// The key-value pairs of a file: where each starts, and an index by key.
struct MetadataTable {
  std::span<const std::byte> bytes;    ///< the file
  std::vector<std::uint64_t> offsets;  ///< of each pair, and one past the last

  std::size_t size() const { return offsets.empty() ? 0 : offsets.size() - 1; }
  std::string_view key(std::size_t i) const;
  Value value(std::size_t i) const;
  std::optional<Value> find(std::string_view key) const;

  NameIndex index;
};

struct ParsedFile {
  std::uint32_t version = 0;
  std::uint64_t alignment = kDefaultAlignment;
  MetadataTable metadata;
  std::vector<Tensor> tensors;
  NameIndex tensor_index;
};

/// Checks everything that can be checked without reading tensor data. `bytes` may end after the
/// tensor infos where `file_size` says how long the file is going to be (the Writer checks its own
/// work like that); tensors then have no data. Errors: kBadFile, kUnsupported; they start with
/// `name`.
Result<ParsedFile> parse_file(std::span<const std::byte> bytes, std::uint64_t file_size,
                              const std::string& name, bool strict);

/// Bytes of a tensor's data. Errors, without the file's and tensor's name: a dimension of 0, too
/// many weights, columns not divisible by the block.
Result<std::uint64_t> tensor_bytes(TensorType type, std::span<const std::uint64_t> shape);

/// 'text', on one line and not too long whatever it holds.
std::string quote(std::string_view text);

}  // namespace kquant::gguf
