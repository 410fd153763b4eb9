#include "model/metadata_keys.hpp"

#include <fmt/format.h>

#include <cmath>

namespace kquant {

void MetadataKeys::reject(std::string_view key, std::string_view found, std::string_view expected,
                          ErrorCode code) {
  if (error_) return;
  error_ = Error{code, fmt::format("{}: key '{}{}': found {}, expected {}", file_.path().string(),
                                   prefix_, key, found, expected)};
}

int MetadataKeys::integer(std::string_view key, std::int64_t min, std::int64_t max,
                          std::optional<int> fallback) {
  const auto value = find(key);
  if (!value && fallback) return *fallback;
  const std::string expected = fmt::format("an integer from {} to {}", min, max);
  if (!value) {
    reject(key, "nothing", expected);
    return static_cast<int>(min);
  }
  const auto number = value->as_int();
  if (!number) {
    reject(key, gguf::name(value->type()), expected);
    return static_cast<int>(min);
  }
  if (*number < min || *number > max) {
    reject(key, std::to_string(*number), expected);
    return static_cast<int>(min);
  }
  return static_cast<int>(*number);
}

float MetadataKeys::number(std::string_view key, double min, double max,
                           std::optional<float> fallback) {
  const auto value = find(key);
  if (!value && fallback) return *fallback;
  const std::string expected = fmt::format("a number from {} to {}", min, max);
  if (!value) {
    reject(key, "nothing", expected);
    return static_cast<float>(min);
  }
  const auto number = value->as_float();
  if (!number) {
    reject(key, gguf::name(value->type()), expected);
    return static_cast<float>(min);
  }
  if (!(*number >= min && *number <= max)) {  // also NaN
    reject(key, fmt::format("{}", *number), expected);
    return static_cast<float>(min);
  }
  return static_cast<float>(*number);
}

std::string MetadataKeys::text(std::string_view key, std::string_view fallback) {
  const auto value = find(key);
  if (!value) return std::string(fallback);
  const auto text = value->as_string();
  if (!text) {
    reject(key, gguf::name(value->type()), "a string");
    return std::string(fallback);
  }
  return std::string(*text);
}

}  // namespace kquant
