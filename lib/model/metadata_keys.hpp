#pragma once
// Reads "ARCH.key" metadata with bounds. The first problem is kept and later reads return the
// fallback, so that a list of keys reads as a list.

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kquant/gguf.hpp"

namespace kquant {

class MetadataKeys {
 public:
  MetadataKeys(const gguf::File& file, std::string_view architecture)
      : file_(file), prefix_(std::string(architecture) + ".") {}

  bool has(std::string_view key) const {
    return file_.find(prefix_ + std::string(key)).has_value();
  }

  /// Within [min, max]; a missing key is an error where there is no fallback.
  int integer(std::string_view key, std::int64_t min, std::int64_t max,
              std::optional<int> fallback = std::nullopt);
  /// Finite and within [min, max].
  float number(std::string_view key, double min, double max,
               std::optional<float> fallback = std::nullopt);
  std::string text(std::string_view key, std::string_view fallback);

  /// "FILE: key 'ARCH.key': found FOUND, expected EXPECTED"
  void reject(std::string_view key, std::string_view found, std::string_view expected,
              ErrorCode code = ErrorCode::kBadFile);
  const std::optional<Error>& error() const { return error_; }
  const gguf::File& file() const { return file_; }
  std::optional<gguf::Value> find(std::string_view key) const {
    return file_.find(prefix_ + std::string(key));
  }

 private:
  const gguf::File& file_;
  std::string prefix_;
  std::optional<Error> error_;
};

}  // namespace kquant
