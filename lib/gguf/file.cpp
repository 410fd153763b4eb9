#include <fmt/format.h>

#include <cstdint>

#include "gguf/mapping.hpp"
#include "gguf/parse.hpp"
#include "gguf/split.hpp"
#include "kquant/gguf.hpp"

namespace kquant::gguf {

struct File::State {
  std::filesystem::path path;
  std::vector<Mapping> mappings;  ///< one a file; none for bytes in memory
  std::uint64_t total_bytes = 0;
  ParsedFile file;  ///< the first file, with the tensors of all

  std::string_view tensor_name(std::uint32_t i) const { return file.tensors[i].name; }
  Result<void> add_shards(const OpenOptions& options);
};

namespace {

Result<ParsedFile> map_and_parse(const std::filesystem::path& path, bool strict,
                                 std::vector<Mapping>& mappings) {
  Result<Mapping> mapping = Mapping::open(path);
  if (!mapping) return fail(mapping.error());
  const std::span<const std::byte> bytes = mapping->bytes();
  mappings.push_back(std::move(*mapping));
  return parse_file(bytes, bytes.size(), path.string(), strict);
}

}  // namespace

Result<void> File::State::add_shards(const OpenOptions& options) {
  const Result<std::optional<Split>> split = find_split(path, file.metadata);
  if (!split) return fail(split.error());
  if (!*split) return {};
  if ((*split)->number != 0)
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: file {} of {} of a split model; open the first one, {}", path.string(),
                    (*split)->number + 1, (*split)->count, split_path(path, 0).string()));
  for (std::uint32_t i = 1; i < (*split)->count; ++i) {
    const std::filesystem::path part = split_path(path, i);
    Result<ParsedFile> parsed = map_and_parse(part, options.strict, mappings);
    if (!parsed)
      return fail(parsed.error(), fmt::format("{}: file {} of {} of the split model", path.string(),
                                              i + 1, (*split)->count));
    const Result<std::optional<Split>> part_split = find_split(part, parsed->metadata);
    if (!part_split) return fail(part_split.error());
    if (const Result<void> same = check_part(part, *part_split, **split, i); !same) return same;
    for (Tensor& tensor : parsed->tensors) {
      tensor.shard = static_cast<int>(i);
      file.tensors.push_back(tensor);
    }
    total_bytes += mappings.back().bytes().size();
  }
  if ((*split)->tensors && *(*split)->tensors != file.tensors.size())
    return fail(
        ErrorCode::kBadFile,
        fmt::format("{}: key 'split.tensors.count' says {} tensors, the {} files have {}",
                    path.string(), *(*split)->tensors, (*split)->count, file.tensors.size()));
  const auto name_of = [this](std::uint32_t number) { return tensor_name(number); };
  if (const auto duplicate = file.tensor_index.build(file.tensors.size(), name_of))
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: tensor {}: the name appears in more than one file of the split",
                            path.string(), quote(tensor_name(*duplicate))));
  return {};
}

Result<File> File::open(const std::filesystem::path& path, const OpenOptions& options) {
  auto state = std::make_unique<State>();
  state->path = path;
  Result<ParsedFile> parsed = map_and_parse(path, options.strict, state->mappings);
  if (!parsed) return fail(parsed.error());
  state->file = std::move(*parsed);
  state->total_bytes = state->mappings.front().bytes().size();
  if (options.follow_splits) {
    const Result<void> shards = state->add_shards(options);
    if (!shards) return fail(shards.error());
  }
  return File(std::move(state));
}

Result<File> File::parse(std::span<const std::byte> bytes, std::string name,
                         const OpenOptions& options) {
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % kMinAlignment != 0)
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: the bytes must start at a multiple of {} in memory", name, kMinAlignment));
  auto state = std::make_unique<State>();
  state->path = std::move(name);
  state->total_bytes = bytes.size();
  Result<ParsedFile> parsed = parse_file(bytes, bytes.size(), state->path.string(), options.strict);
  if (!parsed) return fail(parsed.error());
  state->file = std::move(*parsed);
  return File(std::move(state));
}

File::File(std::unique_ptr<State> state) : state_(std::move(state)) {}
File::File(File&&) noexcept = default;
File& File::operator=(File&&) noexcept = default;
File::~File() = default;

const std::filesystem::path& File::path() const {
  return state_->path;
}
std::uint32_t File::version() const {
  return state_->file.version;
}
std::uint64_t File::alignment() const {
  return state_->file.alignment;
}
std::uint64_t File::total_bytes() const {
  return state_->total_bytes;
}

std::size_t File::metadata_count() const {
  return state_->file.metadata.size();
}
std::string_view File::key(std::size_t i) const {
  return state_->file.metadata.key(i);
}
Value File::value(std::size_t i) const {
  return state_->file.metadata.value(i);
}
std::optional<Value> File::find(std::string_view key) const {
  return state_->file.metadata.find(key);
}

std::span<const Tensor> File::tensors() const {
  return state_->file.tensors;
}
void File::release(std::span<const std::byte> bytes) const {
  for (const Mapping& mapping : state_->mappings) mapping.release(bytes);
}

const Tensor* File::find_tensor(std::string_view name) const {
  const auto i = state_->file.tensor_index.find(
      name, [this](std::uint32_t number) { return state_->tensor_name(number); });
  return i ? &state_->file.tensors[*i] : nullptr;
}

namespace {

std::string describe(const Value& value) {
  if (value.type() == ValueType::Array)
    return fmt::format("an array of {} {}", value.count(), name(value.element_type()));
  return std::string(name(value.type()));
}

// The value of `key`, decoded by one of Value's as_ functions.
template <class T>
Result<T> get(const File& file, std::string_view key, std::optional<T> (Value::*decode)() const,
              std::string_view expected) {
  const std::optional<Value> value = file.find(key);
  if (!value)
    return fail(ErrorCode::kNotFound, fmt::format("{}: key {}: not in the file; expected {}",
                                                  file.path().string(), quote(key), expected));
  std::optional<T> decoded = ((*value).*decode)();
  if (!decoded)
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: key {}: expected {}, found {}", file.path().string(), quote(key),
                            expected, describe(*value)));
  return std::move(*decoded);
}

}  // namespace

Result<std::int64_t> File::get_int(std::string_view key) const {
  return get(*this, key, &Value::as_int, "an integer below 2^63");
}
Result<double> File::get_float(std::string_view key) const {
  return get(*this, key, &Value::as_float, "a number");
}
Result<bool> File::get_bool(std::string_view key) const {
  return get(*this, key, &Value::as_bool, "a bool");
}
Result<std::string_view> File::get_string(std::string_view key) const {
  return get(*this, key, &Value::as_string, "a string");
}
Result<std::vector<std::string_view>> File::get_strings(std::string_view key) const {
  return get(*this, key, &Value::as_strings, "an array of strings");
}
Result<std::vector<std::int64_t>> File::get_ints(std::string_view key) const {
  return get(*this, key, &Value::as_ints, "an array of integers below 2^63");
}
Result<std::vector<float>> File::get_floats(std::string_view key) const {
  return get(*this, key, &Value::as_floats, "an array of numbers");
}

}  // namespace kquant::gguf
