#pragma once
// GGUF files (versions 2 and 3, little-endian): a memory-mapped reader and an atomic writer.
//
//     "GGUF" | version u32 | tensor count u64 | metadata count u64
//     metadata  for each: key, value type u32, value
//     tensors   for each: name, number of dimensions u32, dimensions u64, type u32, offset u64
//     padding   to general.alignment (32 unless the metadata say otherwise)
//     data      of each tensor, padded to the alignment; offsets count from here
//
// A string is its length u64 and bytes; an array its element type u32, length u64 and elements.
//
// Every length, count, product and offset is checked before it is used; a file that breaks a rule
// gives an Error naming the file, the key or tensor and the byte offset, never a crash.
// Specification: docs/gguf.md of github.com/ggml-org/ggml.

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/format/info.hpp"

namespace kquant::gguf {

enum class ValueType : std::uint32_t {
  U8 = 0,
  I8 = 1,
  U16 = 2,
  I16 = 3,
  U32 = 4,
  I32 = 5,
  F32 = 6,
  Bool = 7,
  String = 8,
  Array = 9,
  U64 = 10,
  I64 = 11,
  F64 = 12,
};

/// "u32", "string", …
std::string_view name(ValueType type);

/// One metadata value: a view of its encoded bytes, decoded on request. Cheap to copy; valid as
/// long as the File or Metadata it came from.
class Value {
 public:
  Value(ValueType type, ValueType element_type, std::uint64_t count,
        std::span<const std::byte> bytes)
      : type_(type), element_type_(element_type), count_(count), bytes_(bytes) {}

  ValueType type() const { return type_; }
  /// Of an array: the type of its elements (arrays of arrays are not supported and were rejected).
  ValueType element_type() const { return element_type_; }
  /// Of an array: its length; else 1.
  std::uint64_t count() const { return count_; }
  /// The value as encoded in the file, without key and type (an array: with element type and
  /// count).
  std::span<const std::byte> bytes() const { return bytes_; }

  /// Any integer type that fits losslessly; nullopt otherwise.
  std::optional<std::int64_t> as_int() const;
  /// F32, F64 or an integer.
  std::optional<double> as_float() const;
  std::optional<bool> as_bool() const;
  std::optional<std::string_view> as_string() const;
  /// An array of strings; nullopt for anything else.
  std::optional<std::vector<std::string_view>> as_strings() const;
  /// An array of any integer type / of any number type.
  std::optional<std::vector<std::int64_t>> as_ints() const;
  std::optional<std::vector<float>> as_floats() const;

 private:
  ValueType type_, element_type_;
  std::uint64_t count_;
  std::span<const std::byte> bytes_;
};

struct Tensor {
  std::string_view name;
  TensorType type{};
  int n_dims = 0;
  /// In GGUF's order: shape[0] is the number of columns (contiguous). Unused dimensions are 1.
  std::array<std::uint64_t, 4> shape{1, 1, 1, 1};
  std::span<const std::byte> data;  ///< in the mapped file
  std::uint64_t offset = 0;         ///< of the data, from the start of its file's data section
  int shard = 0;                    ///< which file of a split

  std::uint64_t cols() const { return shape[0]; }
  std::uint64_t rows() const { return shape[1] * shape[2] * shape[3]; }
  std::uint64_t size() const { return cols() * rows(); }
};

struct OpenOptions {
  /// Also requires each tensor's offset to be the padded running sum, as writers lay them out.
  bool strict = true;
  /// Opens all files of a split model (NAME-00001-of-00003.gguf) when given its first one.
  bool follow_splits = true;
};

/// An open GGUF model (one file, or all files of a split). Move-only; closes its mappings at the
/// end.
class File {
 public:
  /// The files are mapped, not read: they must not be shortened while the File lives.
  /// Errors: kNotFound, kIo (cannot open or map), kBadFile (breaks the format), kUnsupported
  /// (version, big-endian, arrays of arrays, unknown tensor type), kInvalidArgument (a later file
  /// of a split).
  static Result<File> open(const std::filesystem::path& path, const OpenOptions& options = {});
  /// Parses bytes in memory, which must outlive the File and start at a multiple of 8 (so that
  /// tensor data are aligned for their types); `name` stands for the file in errors. Other files of
  /// a split are not looked for.
  static Result<File> parse(std::span<const std::byte> bytes, std::string name,
                            const OpenOptions& options = {});

  File(File&&) noexcept;
  File& operator=(File&&) noexcept;
  ~File();

  const std::filesystem::path& path() const;
  std::uint32_t version() const;
  std::uint64_t alignment() const;
  std::uint64_t total_bytes() const;  ///< of all files

  // Metadata, in file order (of the first file of a split).
  std::size_t metadata_count() const;
  std::string_view key(std::size_t i) const;
  Value value(std::size_t i) const;
  std::optional<Value> find(std::string_view key) const;

  // Typed getters: an Error names the key, the type found and the type expected.
  Result<std::int64_t> get_int(std::string_view key) const;
  Result<double> get_float(std::string_view key) const;
  Result<bool> get_bool(std::string_view key) const;
  Result<std::string_view> get_string(std::string_view key) const;
  Result<std::vector<std::string_view>> get_strings(std::string_view key) const;
  Result<std::vector<std::int64_t>> get_ints(std::string_view key) const;
  Result<std::vector<float>> get_floats(std::string_view key) const;

  std::span<const Tensor> tensors() const;                 ///< in file order
  const Tensor* find_tensor(std::string_view name) const;  ///< nullptr where there is none

  /// Says that these bytes, such as a tensor's data, are not needed for now: the system may drop
  /// them from memory, and reads them again from the file when they are.
  void release(std::span<const std::byte> bytes) const;

  struct State;

 private:
  explicit File(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Metadata to be written: encoded values, in order. set_* replace a key in place or append it.
class Metadata {
 public:
  /// All of `file`'s metadata, in order and byte for byte, unknown keys included. Keys that
  /// describe a split (split.*) are left out.
  static Metadata copy_of(const File& file);

  void set(std::string_view key, const Value& value);  ///< verbatim
  void set_u32(std::string_view key, std::uint32_t value);
  void set_u64(std::string_view key, std::uint64_t value);
  void set_i32(std::string_view key, std::int32_t value);
  void set_f32(std::string_view key, float value);
  void set_bool(std::string_view key, bool value);
  void set_string(std::string_view key, std::string_view value);
  void set_strings(std::string_view key, std::span<const std::string> values);
  void set_ints(std::string_view key, std::span<const std::int32_t> values);
  void set_floats(std::string_view key, std::span<const float> values);
  bool erase(std::string_view key);  ///< false where the key was not there

  std::size_t size() const { return entries_.size(); }
  std::string_view key(std::size_t i) const { return entries_[i].key; }
  Value value(std::size_t i) const;
  std::optional<Value> find(std::string_view key) const;

 private:
  struct Entry {
    std::string key;
    ValueType type;
    std::vector<std::byte> bytes;
  };
  void put(std::string_view key, ValueType type, std::vector<std::byte> bytes);
  std::vector<Entry> entries_;
};

/// What to write of one tensor; the data follows later, so that a large model streams.
struct TensorSpec {
  std::string name;
  TensorType type{};
  int n_dims = 0;
  std::array<std::uint64_t, 4> shape{1, 1, 1, 1};
};

/// Name, type and shape of a tensor, to be written again.
TensorSpec spec_of(const Tensor& tensor);

/// Writes one GGUF v3 file beside `path` (PATH.XXXXXX.tmp), and renames it over `path` in finish():
/// a crash, a full disk or a destroyed Writer leaves the old file, or none, never half of one. The
/// new file has the permissions of the one it replaces, or those of any new file.
class Writer {
 public:
  /// Reserves the whole file on disk where the file system can, so that a disk too small shows
  /// here. Where `path` is a symbolic link, the file it points to is replaced.
  /// Errors: kInvalidArgument (metadata or tensors break a rule of the format: duplicate or
  /// overlong names, a shape not a multiple of the block, a bad general.alignment; `path` is
  /// something else than a regular file), kIo.
  static Result<Writer> create(const std::filesystem::path& path, const Metadata& metadata,
                               std::vector<TensorSpec> tensors);
  Writer(Writer&&) noexcept;
  Writer& operator=(Writer&&) noexcept;
  ~Writer();  ///< without finish(): removes the unfinished file

  /// Data of the next tensor, in the order given to create(), all at once or in pieces; a piece
  /// never reaches into the tensor after. Errors: kInvalidArgument (more bytes than the tensor
  /// has), kIo.
  Result<void> append(std::span<const std::byte> bytes);
  /// After the last byte: flushes to disk and renames. The Writer is spent then. Errors:
  /// kInvalidArgument (data are missing), kIo.
  Result<void> finish();

  struct State;

 private:
  explicit Writer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kquant::gguf
