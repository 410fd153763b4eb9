#include "eval/json_lines.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <cerrno>
#include <memory>
#include <system_error>

namespace kquant {
namespace {

using Json = nlohmann::ordered_json;

struct CloseGz {
  void operator()(gzFile_s* file) const { gzclose(file); }
};
using GzFile = std::unique_ptr<gzFile_s, CloseGz>;

/// Lines of a file that may be compressed (zlib passes plain files through).
class LineReader {
 public:
  static Result<LineReader> open(const std::filesystem::path& path) {
    std::error_code error;
    if (!std::filesystem::exists(path, error))
      return fail(ErrorCode::kNotFound, path.string() + ": no such file");
    if (std::filesystem::is_directory(path, error))
      return fail(ErrorCode::kIo, path.string() + ": is a folder, expected a file");
    errno = 0;
    GzFile file(gzopen(path.c_str(), "rb"));
    if (!file)
      return fail(ErrorCode::kIo, fmt::format("{}: cannot open: {}", path.string(),
                                              std::generic_category().message(errno)));
    gzbuffer(file.get(), 1 << 18);
    return LineReader(path.string(), std::move(file));
  }

  /// False at the end. `ended` says whether the line had its newline.
  Result<bool> next(std::string& line, bool& ended) {
    line.clear();
    ended = false;
    while (true) {
      if (at_ == filled_) {
        const int n = gzread(file_.get(), buffer_.data(), static_cast<unsigned>(buffer_.size()));
        int code = Z_OK;
        const char* const reason = gzerror(file_.get(), &code);
        if (n < 0 || (code != Z_OK && code != Z_STREAM_END))
          return fail(ErrorCode::kIo,
                      fmt::format("{}: damaged or truncated gzip data: {}", name_, reason));
        if (n == 0) return !line.empty();
        at_ = 0;
        filled_ = static_cast<std::size_t>(n);
      }
      const std::string_view rest(buffer_.data() + at_, filled_ - at_);
      const std::size_t newline = rest.find('\n');
      line.append(rest.substr(0, newline));
      at_ = newline == rest.npos ? filled_ : at_ + newline + 1;
      if (newline != rest.npos) {
        ended = true;
        return true;
      }
    }
  }

 private:
  LineReader(std::string name, GzFile file)
      : name_(std::move(name)), file_(std::move(file)), buffer_(1 << 18) {}

  std::string name_;
  GzFile file_;
  std::vector<char> buffer_;
  std::size_t at_ = 0, filled_ = 0;
};

}  // namespace

tl::unexpected<Error> JsonRecord::bad(const char* field, const std::string& what) const {
  return fail(ErrorCode::kBadFile, fmt::format("{}: field '{}': {}", where_, field, what));
}

Result<std::string> JsonRecord::text(const char* field) const {
  const auto found = object_.find(field);
  if (found == object_.end()) return bad(field, "is missing");
  if (!found->is_string())
    return bad(field, fmt::format("found {}, expected text", found->type_name()));
  return found->get<std::string>();
}

Result<std::int64_t> JsonRecord::integer(const char* field) const {
  const auto found = object_.find(field);
  if (found == object_.end()) return bad(field, "is missing");
  if (!found->is_number_integer())
    return bad(field, fmt::format("found {}, expected an integer", found->type_name()));
  return found->get<std::int64_t>();
}

Result<std::vector<std::string>> JsonRecord::texts(const char* field) const {
  const auto found = object_.find(field);
  if (found == object_.end()) return bad(field, "is missing");
  if (!found->is_array())
    return bad(field, fmt::format("found {}, expected a list of texts", found->type_name()));
  std::vector<std::string> out;
  for (const Json& element : *found) {
    if (!element.is_string())
      return bad(field, fmt::format("element {}: found {}, expected text", out.size(),
                                    element.type_name()));
    out.push_back(element.get<std::string>());
  }
  return out;
}

Result<std::string> JsonRecord::identifier(const char* field) const {
  const auto found = object_.find(field);
  if (found == object_.end()) return bad(field, "is missing");
  if (found->is_number_integer()) return std::to_string(found->get<std::int64_t>());
  if (!found->is_string())
    return bad(field, fmt::format("found {}, expected text or an integer", found->type_name()));
  return found->get<std::string>();
}

Result<void> read_json_lines(const std::filesystem::path& path,
                             const std::function<Result<void>(const JsonRecord&)>& visit,
                             const JsonLinesOptions& options) {
  auto reader = LineReader::open(path);
  if (!reader) return fail(reader.error());
  std::string line;
  bool ended = false;
  for (std::size_t number = 1;; ++number) {
    const auto more = reader->next(line, ended);
    if (!more) return fail(more.error(), fmt::format("line {}", number));
    if (!*more) return {};
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const std::string where = fmt::format("{}: line {}", path.string(), number);
    Json object;
    try {
      object = Json::parse(line);
    } catch (const Json::parse_error& e) {
      if (!ended && options.forgive_unfinished_line) return {};
      return fail(
          ErrorCode::kBadFile,
          fmt::format("{}: no JSON: it breaks off or is malformed at byte {}", where, e.byte));
    }
    if (!object.is_object())
      return fail(ErrorCode::kBadFile,
                  fmt::format("{}: found {}, expected an object", where, object.type_name()));
    if (auto done = visit({std::move(object), where}); !done) return done;
  }
}

std::string json_line(const Json& object) {
  return object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace kquant
