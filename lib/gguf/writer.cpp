#include <fmt/format.h>

#include "gguf/encoding.hpp"
#include "gguf/parse.hpp"
#include "kquant/base/atomic_file.hpp"
#include "kquant/base/checked.hpp"
#include "kquant/gguf.hpp"

namespace kquant::gguf {

struct Writer::State {
  AtomicFile file;
  std::string path;
  std::vector<TensorSpec> specs;
  std::vector<std::uint64_t> bytes;  ///< of each tensor
  std::uint64_t alignment = kDefaultAlignment;
  std::size_t current = 0;    ///< tensor that append() continues
  std::uint64_t written = 0;  ///< bytes of it

  Result<void> pad(std::uint64_t size) {
    static constexpr std::byte kZeros[kMaxAlignment] = {};
    return file.write(std::span(kZeros).first(*checked_align_up(size, alignment) - size));
  }
};

namespace {

constexpr std::uint32_t kVersion = 3;

struct Layout {
  Bytes header;                      ///< everything before the tensor data
  std::vector<std::uint64_t> bytes;  ///< of each tensor
  std::uint64_t alignment = kDefaultAlignment;
  std::uint64_t file_bytes = 0;
};

// The alignment a reader of these metadata will use; the default where it will refuse them.
std::uint64_t alignment_of(const Metadata& metadata) {
  const std::optional<Value> value = metadata.find(kAlignmentKey);
  const std::optional<std::int64_t> alignment = value ? value->as_int() : std::nullopt;
  const auto number = static_cast<std::uint64_t>(alignment.value_or(0));
  return is_alignment(number) ? number : kDefaultAlignment;
}

void put_header(Bytes& out, const Metadata& metadata, std::size_t tensor_count) {
  put_bytes(out, std::as_bytes(std::span("GGUF", 4)));
  put_number(out, kVersion);
  put_number(out, std::uint64_t{tensor_count});
  put_number(out, std::uint64_t{metadata.size()});
  for (std::size_t i = 0; i < metadata.size(); ++i) {
    const Value value = metadata.value(i);
    put_string(out, metadata.key(i));
    put_number(out, static_cast<std::uint32_t>(value.type()));
    put_bytes(out, value.bytes());
  }
}

// Appends one tensor info; returns the tensor's bytes. Errors: as the message alone.
Result<std::uint64_t> put_tensor_info(Bytes& out, const TensorSpec& spec, std::uint64_t offset) {
  const auto wrong = [](std::string why) { return fail(ErrorCode::kInvalidArgument, why); };
  if (find_type(static_cast<std::uint32_t>(spec.type)) == nullptr)
    return wrong(fmt::format("type {} is not known", static_cast<std::uint32_t>(spec.type)));
  if (spec.n_dims < 1 || spec.n_dims > 4)
    return wrong(fmt::format("{} dimensions; expected 1 to 4", spec.n_dims));
  const auto shape = std::span(spec.shape).first(static_cast<std::size_t>(spec.n_dims));
  for (const std::uint64_t unused : std::span(spec.shape).subspan(shape.size()))
    if (unused != 1) return wrong("a dimension beyond the number of dimensions is not 1");
  put_string(out, spec.name);
  put_number(out, static_cast<std::uint32_t>(spec.n_dims));
  for (const std::uint64_t dimension : shape) put_number(out, dimension);
  put_number(out, static_cast<std::uint32_t>(spec.type));
  put_number(out, offset);
  return tensor_bytes(spec.type, shape);
}

Result<Layout> lay_out(const std::string& path, const Metadata& metadata,
                       std::span<const TensorSpec> tensors) {
  Layout layout;
  layout.alignment = alignment_of(metadata);
  put_header(layout.header, metadata, tensors.size());
  std::uint64_t data_bytes = 0;
  for (const TensorSpec& spec : tensors) {
    const auto wrong = [&](const std::string& why) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{}: tensor {}: {}", path, quote(spec.name), why));
    };
    const Result<std::uint64_t> bytes = put_tensor_info(layout.header, spec, data_bytes);
    if (!bytes) return wrong(bytes.error().message);
    layout.bytes.push_back(*bytes);
    const auto sum = checked_add(data_bytes, *bytes);
    const auto padded = sum ? checked_align_up(*sum, layout.alignment) : std::nullopt;
    if (!padded) return wrong("the data of all tensors exceed 2^64 bytes");
    data_bytes = *padded;
  }
  // A file without tensors has no data section, and so nothing to align.
  if (!tensors.empty())
    layout.header.resize(*checked_align_up(layout.header.size(), layout.alignment));
  const auto file_bytes = checked_add(layout.header.size(), data_bytes);
  if (!file_bytes)
    return fail(ErrorCode::kInvalidArgument, path + ": the file would exceed 2^64 bytes");
  layout.file_bytes = *file_bytes;

  // Every rule that the reader enforces holds for what is written: the reader says so.
  const Result<ParsedFile> parsed = parse_file(layout.header, layout.file_bytes, path, true);
  if (!parsed) return fail(ErrorCode::kInvalidArgument, parsed.error().message);
  return layout;
}

}  // namespace

TensorSpec spec_of(const Tensor& tensor) {
  return {std::string(tensor.name), tensor.type, tensor.n_dims, tensor.shape};
}

Result<Writer> Writer::create(const std::filesystem::path& path, const Metadata& metadata,
                              std::vector<TensorSpec> tensors) {
  Result<Layout> layout = lay_out(path.string(), metadata, tensors);
  if (!layout) return fail(layout.error());
  Result<AtomicFile> file = AtomicFile::create(path);
  if (!file) return fail(file.error());
  Result<void> done = file->reserve(layout->file_bytes);
  if (done) done = file->write(layout->header);
  if (!done) return fail(done.error());
  return Writer(std::make_unique<State>(State{std::move(*file), path.string(), std::move(tensors),
                                              std::move(layout->bytes), layout->alignment}));
}

Writer::Writer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Writer::Writer(Writer&&) noexcept = default;
Writer& Writer::operator=(Writer&&) noexcept = default;
Writer::~Writer() = default;

Result<void> Writer::append(std::span<const std::byte> bytes) {
  State& s = *state_;
  if (bytes.empty()) return {};
  if (s.current == s.specs.size())
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} bytes after the last tensor", s.path, bytes.size()));
  if (bytes.size() > s.bytes[s.current] - s.written)
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: tensor {}: {} bytes at its byte {}, but it has {}", s.path,
                    quote(s.specs[s.current].name), bytes.size(), s.written, s.bytes[s.current]));
  if (const Result<void> done = s.file.write(bytes); !done) return done;
  s.written += bytes.size();
  if (s.written < s.bytes[s.current]) return {};
  s.written = 0;
  return s.pad(s.bytes[s.current++]);
}

Result<void> Writer::finish() {
  State& s = *state_;
  if (s.current < s.specs.size())
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: tensor {}: {} of its {} bytes were written", s.path,
                            quote(s.specs[s.current].name), s.written, s.bytes[s.current]));
  return s.file.commit();
}

}  // namespace kquant::gguf
