#pragma once
// Importance matrices: for each weight tensor, the mean squared activation of each input column
// over a calibration text.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kquant/base/error.hpp"

namespace kquant {

class Imatrix {
 public:
  struct Entry {
    std::vector<float> sums;    ///< sum of x^2: cols (times experts) values
    std::vector<float> counts;  ///< how many rows x were summed: one value, or one an expert
  };

  /// Adds `rows` rows of activations that met tensor `name`, summed up as squares by column. Not
  /// thread-safe. Errors: kInvalidArgument (another number of columns than before; nothing added).
  Result<void> add(std::string_view name, std::span<const float> sum_of_squares, float rows);

  /// Mean squares of one tensor (sums divided by counts; an expert with count 0 gets 1), or empty
  /// where the tensor is not covered. Errors: kBadData for a negative or non-finite value, naming
  /// the tensor.
  Result<std::vector<float>> importance(std::string_view name) const;

  /// GGUF (`<tensor>.in_sum2`, `<tensor>.counts`) or the legacy .dat format, told apart by content.
  /// Errors: kNotFound, kIo, kBadFile (naming file, entry and byte offset).
  static Result<Imatrix> load(const std::filesystem::path& path);
  /// The same from memory; `name` stands for the file in errors.
  static Result<Imatrix> parse(std::span<const std::byte> bytes, const std::string& name);

  /// Writes the GGUF form, atomically. Errors: kInvalidArgument (no entries, a tensor name of 56
  /// bytes or more), kIo.
  Result<void> save(const std::filesystem::path& path) const;

  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  std::vector<std::string> datasets;  ///< texts it was collected from, for the record
  std::uint32_t chunk_count = 0;      ///< how many windows were evaluated
  std::uint32_t chunk_size = 0;       ///< tokens a window; 0 where it is not known
  std::string source;                 ///< the file it was loaded from, if any

 private:
  static Result<Imatrix> parse_gguf(std::span<const std::byte> bytes, const std::string& name);
  static Result<Imatrix> parse_legacy(std::span<const std::byte> bytes, const std::string& name);
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace kquant
