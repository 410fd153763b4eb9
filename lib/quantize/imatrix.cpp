#include "kquant/imatrix.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "kquant/gguf.hpp"

namespace kquant {
namespace {

constexpr std::string_view kSumsSuffix = ".in_sum2";
constexpr std::string_view kCountsSuffix = ".counts";

// The legacy file, little-endian:
//
//     i32 entries
//     entry:  i32 length, name | i32 calls | i32 values | f32[values] = mean square * calls
//     i32 last call | i32 length, dataset            (missing in the oldest files)
class LegacyReader {
 public:
  LegacyReader(std::span<const std::byte> bytes, const std::string& name)
      : bytes_(bytes), name_(name) {}

  Result<std::int32_t> integer(const char* what, std::int32_t least) {
    std::int32_t value = 0;
    if (bytes_.size() - at_ < sizeof value) return ends_in(what);
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    if (value < least)
      return error(fmt::format("{} is {}, expected {} or more", what, value, least));
    at_ += sizeof value;
    return value;
  }

  Result<std::string> text(const char* what, std::int32_t least) {
    const auto length = integer(what, least);
    if (!length) return fail(length.error());
    const auto size = static_cast<std::size_t>(*length);
    if (bytes_.size() - at_ < size) return ends_in(what);
    std::string result(reinterpret_cast<const char*>(bytes_.data()) + at_, size);
    at_ += size;
    return result;
  }

  Result<std::vector<float>> floats(const char* what) {
    const auto length = integer(what, 1);
    if (!length) return fail(length.error());
    const auto count = static_cast<std::size_t>(*length);
    if ((bytes_.size() - at_) / sizeof(float) < count) return ends_in(what);
    std::vector<float> result(count);
    std::memcpy(result.data(), bytes_.data() + at_, count * sizeof(float));
    at_ += count * sizeof(float);
    return result;
  }

  bool done() const { return at_ == bytes_.size(); }
  /// What errors say they are about, beside the offset.
  void set_entry(std::string entry) { entry_ = std::move(entry); }

  tl::unexpected<Error> error(const std::string& message) const {
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: imatrix {} at byte {}: {}", name_, entry_, at_, message));
  }

 private:
  tl::unexpected<Error> ends_in(const char* what) const {
    return error(fmt::format("the file ends within {} ({} bytes left)", what, bytes_.size() - at_));
  }

  std::span<const std::byte> bytes_;
  const std::string& name_;
  std::string entry_ = "header";
  std::size_t at_ = 0;
};

Result<void> read_legacy_entry(LegacyReader& reader,
                               std::map<std::string, Imatrix::Entry, std::less<>>& entries) {
  auto tensor = reader.text("the tensor name", 1);
  if (!tensor) return fail(tensor.error());
  reader.set_entry(fmt::format("entry '{}'", *tensor));
  const auto calls = reader.integer("the number of calls", 0);
  if (!calls) return fail(calls.error());
  auto values = reader.floats("the values");
  if (!values) return fail(values.error());
  // Without calls there is nothing to divide by: the values count as they are.
  Imatrix::Entry entry{std::move(*values), {static_cast<float>(std::max(*calls, 1))}};
  if (!entries.emplace(std::move(*tensor), std::move(entry)).second)
    return reader.error("a second entry of this name");
  return {};
}

std::vector<float> floats_of(const gguf::Tensor& tensor) {
  std::vector<float> values(tensor.size());
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

bool is_gguf(std::span<const std::byte> bytes) {
  return bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0;
}

std::uint32_t u32_or_0(const gguf::File& file, std::string_view key) {
  const auto value = file.find(key);
  const std::int64_t number = value ? value->as_int().value_or(0) : 0;
  return number > 0 && number <= std::numeric_limits<std::uint32_t>::max()
             ? static_cast<std::uint32_t>(number)
             : 0;
}

}  // namespace

Result<void> Imatrix::add(std::string_view name, std::span<const float> sum_of_squares,
                          float rows) {
  if (sum_of_squares.empty())
    return fail(ErrorCode::kInvalidArgument, fmt::format("imatrix entry '{}': no columns", name));
  auto found = entries_.find(name);
  if (found == entries_.end())
    found =
        entries_
            .emplace(std::string(name), Entry{std::vector<float>(sum_of_squares.size()), {0.0f}})
            .first;
  auto& [sums, counts] = found->second;
  if (sums.size() != sum_of_squares.size() || counts.size() != 1)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("imatrix entry '{}': {} columns, but it holds {} of {} experts", name,
                            sum_of_squares.size(), sums.size(), counts.size()));
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += sum_of_squares[i];
  counts[0] += rows;
  return {};
}

Result<std::vector<float>> Imatrix::importance(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return std::vector<float>{};
  const auto& [sums, counts] = found->second;
  std::vector<float> means(sums.size());
  const std::size_t cols = sums.size() / counts.size();
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const float count = counts[i / cols];
    means[i] = count == 0 ? 1.0f : sums[i] / count;
    if (!(count >= 0) || !(means[i] >= 0) || !std::isfinite(means[i]))
      return fail(ErrorCode::kBadData,
                  fmt::format("imatrix entry '{}': value {} is {} over a count of {}, expected "
                              "finite and not negative",
                              name, i, sums[i], count));
  }
  return means;
}

Result<Imatrix> Imatrix::load(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    return fail(ErrorCode::kNotFound, fmt::format("{}: no such file", path.string()));
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = in ? static_cast<std::streamoff>(in.tellg()) : -1;
  if (size < 0 || std::filesystem::is_directory(path, ignored))
    return fail(ErrorCode::kIo, fmt::format("{}: cannot open", path.string()));
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  in.seekg(0);
  if (!in.read(reinterpret_cast<char*>(bytes.data()), size))
    return fail(ErrorCode::kIo, fmt::format("{}: cannot read {} bytes", path.string(), size));
  auto result = parse(bytes, path.string());
  if (result) result->source = path.string();
  return result;
}

Result<Imatrix> Imatrix::parse(std::span<const std::byte> bytes, const std::string& name) {
  return is_gguf(bytes) ? parse_gguf(bytes, name) : parse_legacy(bytes, name);
}

Result<Imatrix> Imatrix::parse_legacy(std::span<const std::byte> bytes, const std::string& name) {
  Imatrix result;
  LegacyReader reader(bytes, name);
  const auto count = reader.integer("the number of entries", 1);
  if (!count) return fail(count.error());
  for (std::int32_t i = 0; i < *count; ++i) {
    reader.set_entry(fmt::format("entry {} of {}", i + 1, *count));
    if (auto read = read_legacy_entry(reader, result.entries_); !read) return fail(read.error());
  }
  if (reader.done()) return result;
  reader.set_entry("trailer");
  const auto last_call = reader.integer("the last call", 0);
  if (!last_call) return fail(last_call.error());
  auto dataset = reader.text("the dataset", 0);
  if (!dataset) return fail(dataset.error());
  if (!reader.done()) return reader.error("bytes after the end");
  result.chunk_count = static_cast<std::uint32_t>(*last_call);
  if (!dataset->empty()) result.datasets.push_back(std::move(*dataset));
  return result;
}

Result<Imatrix> Imatrix::parse_gguf(std::span<const std::byte> bytes, const std::string& name) {
  const auto file = gguf::File::parse(bytes, name);
  if (!file) return fail(file.error());
  Imatrix result;
  if (const auto value = file->find("imatrix.datasets"))
    for (const auto& dataset : value->as_strings().value_or(std::vector<std::string_view>{}))
      result.datasets.emplace_back(dataset);
  result.chunk_count = u32_or_0(*file, "imatrix.chunk_count");
  result.chunk_size = u32_or_0(*file, "imatrix.chunk_size");
  for (const gguf::Tensor& tensor : file->tensors()) {
    const auto entry_error = [&](const std::string& message) {
      return fail(ErrorCode::kBadFile, fmt::format("{}: imatrix tensor '{}' at offset {}: {}", name,
                                                   tensor.name, tensor.offset, message));
    };
    const bool sums = tensor.name.ends_with(kSumsSuffix);
    if (!sums && !tensor.name.ends_with(kCountsSuffix)) continue;
    if (tensor.type != TensorType::F32)
      return entry_error(fmt::format("type {}, expected F32", type_info(tensor.type).name));
    const std::string_view suffix = sums ? kSumsSuffix : kCountsSuffix;
    const std::string weight(tensor.name.substr(0, tensor.name.size() - suffix.size()));
    const auto* other = file->find_tensor(weight + std::string(sums ? kCountsSuffix : kSumsSuffix));
    if (!other)
      return entry_error(fmt::format("has no '{}' beside it", sums ? "counts" : "in_sum2"));
    if (!sums) continue;
    if (tensor.size() % other->size() != 0)
      return entry_error(
          fmt::format("{} values do not divide by {} counts", tensor.size(), other->size()));
    if (other->type == TensorType::F32)
      result.entries_.emplace(weight, Entry{floats_of(tensor), floats_of(*other)});
  }
  if (result.entries_.empty())
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: not an imatrix: no '*{}' tensors", name, kSumsSuffix));
  return result;
}

Result<void> Imatrix::save(const std::filesystem::path& path) const {
  if (entries_.empty())
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: cannot write an imatrix without entries", path.string()));
  gguf::Metadata metadata;
  metadata.set_string("general.type", "imatrix");
  metadata.set_strings("imatrix.datasets", datasets);
  metadata.set_u32("imatrix.chunk_count", chunk_count);
  metadata.set_u32("imatrix.chunk_size", chunk_size);
  std::vector<gguf::TensorSpec> specs;
  for (const auto& [name, entry] : entries_) {
    const std::uint64_t experts = entry.counts.size();
    const std::uint64_t cols = entry.sums.size() / experts;
    specs.push_back({name + std::string(kSumsSuffix), TensorType::F32, 2, {cols, experts, 1, 1}});
    specs.push_back({name + std::string(kCountsSuffix), TensorType::F32, 2, {1, experts, 1, 1}});
  }
  auto writer = gguf::Writer::create(path, metadata, std::move(specs));
  if (!writer) return fail(writer.error());
  for (const auto& [name, entry] : entries_)
    for (const auto* values : {&entry.sums, &entry.counts})
      if (auto written = writer->append(std::as_bytes(std::span(*values))); !written)
        return written;
  return writer->finish();
}

}  // namespace kquant
