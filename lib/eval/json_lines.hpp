#pragma once
// Files with one JSON object a line, plain or gzip-compressed. Errors name file, line and field.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "kquant/base/error.hpp"

namespace kquant {

/// One line's object. The getters fail with kBadFile: a field missing or of another kind.
class JsonRecord {
 public:
  JsonRecord(nlohmann::ordered_json object, std::string where)
      : object_(std::move(object)), where_(std::move(where)) {}

  bool has(const char* field) const { return object_.contains(field); }
  Result<std::string> text(const char* field) const;
  Result<std::int64_t> integer(const char* field) const;
  Result<std::vector<std::string>> texts(const char* field) const;
  /// A text or an integer, as text: what identifies an item.
  Result<std::string> identifier(const char* field) const;

  const nlohmann::ordered_json& object() const { return object_; }
  /// "FILE: line 3"
  const std::string& where() const { return where_; }
  tl::unexpected<Error> bad(const char* field, const std::string& what) const;

 private:
  nlohmann::ordered_json object_;
  std::string where_;
};

struct JsonLinesOptions {
  /// A last line that does not parse is left out instead of being an error: a writer was killed in
  /// the middle of it.
  bool forgive_unfinished_line = false;
};

/// Calls `visit` for every line that is not blank, until it fails. Errors: kNotFound, kIo (also a
/// damaged or truncated gzip stream), kBadFile (a line that is no JSON object), those of `visit`.
Result<void> read_json_lines(const std::filesystem::path& path,
                             const std::function<Result<void>(const JsonRecord&)>& visit,
                             const JsonLinesOptions& options = {});

/// One line of output; bytes that are no UTF-8 become U+FFFD.
std::string json_line(const nlohmann::ordered_json& object);

}  // namespace kquant
