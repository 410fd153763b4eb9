#include "gguf/parse.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "gguf/cursor.hpp"
#include "gguf/value_type.hpp"
#include "kquant/base/checked.hpp"

namespace kquant::gguf {
namespace {

constexpr std::uint64_t kMaxWeights = std::numeric_limits<std::int64_t>::max();

/// What is being parsed, for errors: "key 'general.name': ", or "key 3: " while it has no name.
/// Text is made only when something is wrong.
struct Subject {
  std::string_view kind;  ///< empty: the file as a whole
  std::uint64_t number = 0;
  std::string_view name;

  std::string text() const {
    if (kind.empty()) return {};
    if (name.empty()) return fmt::format("{} {}: ", kind, number);
    return fmt::format("{} {}: ", kind, quote(name));
  }
};

/// Errors read "model.gguf: tensor 'x': MESSAGE (at byte 123)".
class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::uint64_t file_size, const std::string& name,
         bool strict)
      : bytes_(bytes), file_size_(file_size), name_(name), strict_(strict), cursor_(bytes) {}

  Result<ParsedFile> parse() {
    Result<void> done = parse_header();
    if (done) done = parse_metadata();
    if (done) done = parse_alignment();
    if (done) done = parse_tensor_infos();
    if (done) done = place_tensors();
    if (!done) return fail(done.error());
    return std::move(file_);
  }

 private:
  Result<void> parse_header();
  Result<void> parse_metadata();
  Result<void> parse_value(ValueType type);
  Result<void> parse_array();
  Result<void> parse_elements(ValueType type, std::uint64_t count);
  Result<void> parse_alignment();
  Result<void> parse_tensor_infos();
  Result<Tensor> parse_tensor_info();
  Result<void> place_tensors();

  template <class... Args>
  tl::unexpected<Error> bad(fmt::format_string<Args...> format, Args&&... args) const {
    return error(ErrorCode::kBadFile, fmt::format(format, std::forward<Args>(args)...));
  }
  tl::unexpected<Error> error(ErrorCode code, const std::string& message) const {
    return fail(
        code, fmt::format("{}: {}{} (at byte {})", name_, subject_.text(), message, cursor_.at()));
  }
  tl::unexpected<Error> ends_in(std::string_view what) const {
    return bad("the file ends in {}, {} bytes remain", what, cursor_.remaining());
  }

  std::span<const std::byte> bytes_;
  std::uint64_t file_size_;
  const std::string& name_;
  bool strict_;
  Cursor cursor_;
  Subject subject_;
  std::uint64_t tensor_count_ = 0, metadata_count_ = 0;
  ParsedFile file_;
};

Result<void> Parser::parse_header() {
  const auto magic = cursor_.take(4);
  if (!magic) return ends_in("the magic number");
  const std::string_view text(reinterpret_cast<const char*>(magic->data()), 4);
  if (text != "GGUF") return bad("not a GGUF file: it starts with {}", quote(text));
  const auto version = cursor_.read<std::uint32_t>();
  if (!version) return ends_in("the version number");
  if (*version != 0 && (*version & 0xffffu) == 0)
    return error(ErrorCode::kUnsupported, "the file is big-endian; expected little-endian");
  if (*version != 2 && *version != 3)
    return error(ErrorCode::kUnsupported,
                 fmt::format("GGUF version {}; expected 2 or 3", *version));
  file_.version = *version;
  const auto tensors = cursor_.read<std::uint64_t>();
  const auto metadata = cursor_.read<std::uint64_t>();
  if (!tensors || !metadata) return ends_in("the header");
  if (*tensors > kMaxCount) return bad("{} tensors; expected at most 2^30", *tensors);
  if (*metadata > kMaxCount) return bad("{} metadata keys; expected at most 2^30", *metadata);
  tensor_count_ = *tensors;
  metadata_count_ = *metadata;
  return {};
}

Result<void> Parser::parse_metadata() {
  MetadataTable& table = file_.metadata;
  table.bytes = bytes_;
  table.offsets = {cursor_.at()};
  // The count is a claim, so nothing is reserved for it: memory follows the bytes that are there.
  for (std::uint64_t i = 0; i < metadata_count_; ++i) {
    subject_ = {"key", i, {}};
    const auto key = cursor_.read_string();
    if (!key) return ends_in("a key");
    if (key->empty()) return bad("the key is empty");
    if (key->size() > kMaxKeyBytes)
      return bad("key of {} bytes; expected at most {}", key->size(), kMaxKeyBytes);
    subject_.name = *key;
    const auto type = cursor_.read<std::uint32_t>();
    if (!type) return ends_in("a value type");
    const Result<void> value = parse_value(ValueType{*type});
    if (!value) return value;
    table.offsets.push_back(cursor_.at());
  }
  subject_ = {};
  const auto key_of = [&](std::uint32_t i) { return table.key(i); };
  if (const auto duplicate = table.index.build(table.size(), key_of))
    return bad("key {}: appears twice", quote(table.key(*duplicate)));
  return {};
}

Result<void> Parser::parse_value(ValueType type) {
  return type == ValueType::Array ? parse_array() : parse_elements(type, 1);
}

Result<void> Parser::parse_array() {
  const auto type = cursor_.read<std::uint32_t>();
  const auto count = cursor_.read<std::uint64_t>();
  if (!type || !count) return ends_in("an array's type and length");
  if (ValueType{*type} == ValueType::Array)
    return error(ErrorCode::kUnsupported, "arrays of arrays are not supported");
  if (*count > kMaxCount) return bad("array of {} elements; expected at most 2^30", *count);
  return parse_elements(ValueType{*type}, *count);
}

Result<void> Parser::parse_elements(ValueType type, std::uint64_t count) {
  if (type == ValueType::String) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto length = cursor_.read<std::uint64_t>();
      if (!length) return ends_in("a string's length");
      if (*length > kMaxCount) return bad("string of {} bytes; expected at most 2^30", *length);
      if (!cursor_.take(*length))
        return bad("string of {} bytes, but {} bytes remain", *length, cursor_.remaining());
    }
    return {};
  }
  const std::size_t size = fixed_size(type);
  if (size == 0)
    return bad("value type {} does not exist; expected 0 to 12", static_cast<std::uint32_t>(type));
  // size <= 8 and count <= 2^30: the product fits.
  const auto values = cursor_.take(count * size);
  if (!values)
    return bad("{} values of type {} do not fit: {} bytes remain", count, gguf::name(type),
               cursor_.remaining());
  if (type == ValueType::Bool)
    for (const std::byte b : *values)
      if (b > std::byte{1}) return bad("a bool is {}; expected 0 or 1", static_cast<unsigned>(b));
  return {};
}

Result<void> Parser::parse_alignment() {
  const std::optional<Value> value = file_.metadata.find(kAlignmentKey);
  if (!value) return {};
  if (value->type() != ValueType::U32)
    return bad("key '{}': expected a u32, found {}", kAlignmentKey, gguf::name(value->type()));
  const auto alignment = static_cast<std::uint64_t>(*value->as_int());
  if (!is_alignment(alignment))
    return bad("key '{}': expected a power of two from {} to {}, found {}", kAlignmentKey,
               kMinAlignment, kMaxAlignment, alignment);
  file_.alignment = alignment;
  return {};
}

Result<void> Parser::parse_tensor_infos() {
  // Twice: the count is a claim, so memory is taken only once the infos are known to be there.
  const Cursor start = cursor_;
  for (const bool keep : {false, true}) {
    cursor_ = start;
    if (keep) file_.tensors.reserve(tensor_count_);
    for (std::uint64_t i = 0; i < tensor_count_; ++i) {
      subject_ = {"tensor", i, {}};
      const Result<Tensor> tensor = parse_tensor_info();
      if (!tensor) return fail(tensor.error());
      if (keep) file_.tensors.push_back(*tensor);
    }
  }
  subject_ = {};
  const auto name_of = [&](std::uint32_t i) { return file_.tensors[i].name; };
  if (const auto duplicate = file_.tensor_index.build(file_.tensors.size(), name_of))
    return bad("tensor {}: the name appears twice", quote(name_of(*duplicate)));
  return {};
}

Result<Tensor> Parser::parse_tensor_info() {
  Tensor tensor;
  const auto name = cursor_.read_string();
  if (!name) return ends_in("a tensor name");
  if (name->empty()) return bad("the name is empty");
  if (name->size() > kMaxTensorNameBytes)
    return bad("name of {} bytes; expected at most {}", name->size(), kMaxTensorNameBytes);
  tensor.name = subject_.name = *name;

  const auto n_dims = cursor_.read<std::uint32_t>();
  if (!n_dims) return ends_in("the number of dimensions");
  if (*n_dims < 1 || *n_dims > tensor.shape.size())
    return bad("{} dimensions; expected 1 to {}", *n_dims, tensor.shape.size());
  tensor.n_dims = static_cast<int>(*n_dims);
  for (std::uint32_t d = 0; d < *n_dims; ++d) {
    const auto dimension = cursor_.read<std::uint64_t>();
    if (!dimension) return ends_in("the dimensions");
    tensor.shape[d] = *dimension;
  }

  const auto type = cursor_.read<std::uint32_t>();
  const auto offset = cursor_.read<std::uint64_t>();
  if (!type || !offset) return ends_in("the type and offset");
  if (find_type(*type) == nullptr)
    return error(ErrorCode::kUnsupported, fmt::format("tensor type {} is not known", *type));
  tensor.type = TensorType{*type};
  tensor.offset = *offset;
  return tensor;
}

Result<void> Parser::place_tensors() {
  if (file_.tensors.empty()) return {};
  const std::optional<std::uint64_t> start = checked_align_up(cursor_.at(), file_.alignment);
  std::uint64_t expected_offset = 0;
  for (Tensor& tensor : file_.tensors) {
    subject_ = {"tensor", 0, tensor.name};
    const Result<std::uint64_t> size = tensor_bytes(tensor.type, tensor.shape);
    if (!size) return error(size.error().code, size.error().message);
    if (tensor.offset % file_.alignment != 0)
      return bad("offset {} is not a multiple of the alignment {}", tensor.offset, file_.alignment);
    if (strict_ && tensor.offset != expected_offset)
      return bad("offset {}; expected {}, the padded sum of the tensors before it", tensor.offset,
                 expected_offset);
    const auto first = checked_add(start.value_or(file_size_), tensor.offset);
    const auto last = first ? checked_add(*first, *size) : std::nullopt;
    if (!last || *last > file_size_)
      return bad("{} bytes at offset {} do not fit: the file has {} bytes, its data start at {}",
                 *size, tensor.offset, file_size_, start.value_or(file_size_));
    if (*last <= bytes_.size()) tensor.data = bytes_.subspan(*first, *size);
    // Does not wrap: the tensor ends inside the file, and a padding is at most 64 KiB.
    expected_offset = *checked_align_up(tensor.offset + *size, file_.alignment);
  }
  subject_ = {};
  return {};
}

}  // namespace

std::string_view MetadataTable::key(std::size_t i) const {
  return *Cursor(bytes, offsets[i]).read_string();
}

Value MetadataTable::value(std::size_t i) const {
  Cursor cursor(bytes.first(offsets[i + 1]), offsets[i]);
  cursor.read_string();
  const ValueType type{*cursor.read<std::uint32_t>()};
  return make_value(type, bytes.first(offsets[i + 1]).subspan(cursor.at()));
}

std::optional<Value> MetadataTable::find(std::string_view wanted) const {
  const auto i = index.find(wanted, [this](std::uint32_t number) { return key(number); });
  if (!i) return std::nullopt;
  return value(*i);
}

Result<ParsedFile> parse_file(std::span<const std::byte> bytes, std::uint64_t file_size,
                              const std::string& name, bool strict) {
  return Parser(bytes, file_size, name, strict).parse();
}

Result<std::uint64_t> tensor_bytes(TensorType type, std::span<const std::uint64_t> shape) {
  const TypeInfo& info = type_info(type);
  if (std::find(shape.begin(), shape.end(), 0u) != shape.end())
    return fail(ErrorCode::kBadFile, "a dimension is 0");
  const std::optional<std::uint64_t> weights = checked_product(shape);
  if (!weights || *weights > kMaxWeights)
    return fail(ErrorCode::kBadFile, fmt::format("the dimensions {} have a product of 2^63 or more",
                                                 fmt::join(shape, " x ")));
  if (shape[0] % info.block_size != 0)
    return fail(ErrorCode::kBadFile,
                fmt::format("{} columns are not a multiple of {}'s block of {}", shape[0],
                            info.name, info.block_size));
  const auto bytes = checked_mul(*weights / info.block_size, info.block_bytes);
  if (!bytes || *bytes > kMaxWeights)
    return fail(ErrorCode::kBadFile,
                fmt::format("{} weights of type {} exceed 2^63 bytes", *weights, info.name));
  return *bytes;
}

std::string quote(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  std::string out = "'";
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      out += fmt::format("\\x{:02x}", byte);
    else
      out += c;
  }
  return out + (text.size() > kLongest ? "…'" : "'");
}

}  // namespace kquant::gguf
