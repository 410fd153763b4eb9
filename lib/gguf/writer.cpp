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

// The alignment a reader of these metadata will use. Whether it is a good one is checked later, by
// parsing what was encoded.
std::uint64_t alignment_of(const Metadata& metadata) {
  const std::optional<Value> value = metadata.find(kAlignmentKey);
  const std::optional<std::int64_t> alignment = value ? value->as_int() : std::nullopt;
  const bool usable = alignment && *alignment > 0 && (*alignment & (*alignment - 1)) == 0;
  return usable ? static_cast<std::uint64_t>(*alignment) : kDefaultAlignment;
}

}  // namespace

TensorSpec spec_of(const Tensor& tensor) {
  return {std::string(tensor.name), tensor.type, tensor.n_dims, tensor.shape};
}

Result<Writer> Writer::create(const std::filesystem::path& path, const Metadata& metadata,
                              std::vector<TensorSpec> tensors) {
  const auto wrong = [&](const std::string& message) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{}: {}", path.string(), message));
  };
  const std::uint64_t alignment = alignment_of(metadata);

  Bytes header;
  put_bytes(header, std::as_bytes(std::span("GGUF", 4)));
  put_number(header, kVersion);
  put_number(header, std::uint64_t{tensors.size()});
  put_number(header, std::uint64_t{metadata.entries_.size()});
  for (const Metadata::Entry& entry : metadata.entries_) {
    put_string(header, entry.key);
    put_number(header, static_cast<std::uint32_t>(entry.type));
    put_bytes(header, entry.bytes);
  }
  std::vector<std::uint64_t> sizes;
  std::uint64_t data_bytes = 0;
  for (const TensorSpec& spec : tensors) {
    const auto what = fmt::format("tensor {}: ", quote(spec.name));
    if (find_type(static_cast<std::uint32_t>(spec.type)) == nullptr)
      return wrong(what + "its type is not known");
    if (spec.n_dims < 1 || spec.n_dims > 4)
      return wrong(fmt::format("{}{} dimensions; expected 1 to 4", what, spec.n_dims));
    const auto shape = std::span(spec.shape).first(static_cast<std::size_t>(spec.n_dims));
    for (const std::uint64_t unused : std::span(spec.shape).subspan(shape.size()))
      if (unused != 1) return wrong(what + "a dimension beyond the number of dimensions is not 1");
    const Result<std::uint64_t> size = tensor_bytes(spec.type, shape);
    if (!size) return wrong(what + size.error().message);

    put_string(header, spec.name);
    put_number(header, static_cast<std::uint32_t>(spec.n_dims));
    for (const std::uint64_t dimension : shape) put_number(header, dimension);
    put_number(header, static_cast<std::uint32_t>(spec.type));
    put_number(header, data_bytes);
    sizes.push_back(*size);
    const auto sum = checked_add(data_bytes, *size);
    const auto padded = sum ? checked_align_up(*sum, alignment) : std::nullopt;
    if (!padded) return wrong(what + "the data of all tensors exceed 2^64 bytes");
    data_bytes = *padded;
  }
  // A file without tensors has no data section, and so nothing to align.
  if (!tensors.empty()) header.resize(*checked_align_up(header.size(), alignment));
  const auto file_bytes = checked_add(header.size(), data_bytes);
  if (!file_bytes) return wrong("the file exceeds 2^64 bytes");

  // Every rule that the reader enforces holds for what is written: by the reader.
  const Result<ParsedFile> parsed = parse_file(header, *file_bytes, path.string(), true);
  if (!parsed) return fail(ErrorCode::kInvalidArgument, parsed.error().message);

  Result<AtomicFile> file = AtomicFile::create(path);
  if (!file) return fail(file.error());
  Result<void> done = file->reserve(*file_bytes);
  if (done) done = file->write(header);
  if (!done) return fail(done.error());
  return Writer(std::make_unique<State>(
      State{std::move(*file), path.string(), std::move(tensors), std::move(sizes), alignment}));
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
