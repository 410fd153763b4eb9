#include "eval/results.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <system_error>
#include <unordered_map>

#include "eval/json_lines.hpp"
#include "kquant/base/atomic_file.hpp"

namespace kquant {
namespace {

namespace fs = std::filesystem;

/// A header without what may differ between equal results.
ResultsJson identity(ResultsJson header) {
  for (const char* const key : {"shard", "complete", "runs"}) header.erase(key);
  for (const char* const key : {"model", "reference", "data", "shots"})
    if (header.contains(key) && header[key].is_object()) header[key].erase("file");
  return header;
}

/// Cuts off what stands after the last newline.
Result<void> cut_unfinished_line(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::error_code error;
  const std::size_t end = text.rfind('\n');
  if (end == text.npos || end + 1 < text.size())
    fs::resize_file(path, end == text.npos ? 0 : end + 1, error);
  if (error) return fail(ErrorCode::kIo, path.string() + ": cannot cut: " + error.message());
  return {};
}

}  // namespace

ResultsJson json_of(const ModelIdentity& model) {
  ResultsJson json = {{"file", model.name}, {"hash", model.hash}};
  if (model.activations == ActivationPrecision::kFloat) json["activations"] = "f32";
  return json;
}

Result<ResultsFile> read_results(const fs::path& path) {
  ResultsFile results;
  auto read = read_json_lines(
      path,
      [&](const JsonRecord& record) -> Result<void> {
        if (results.header.is_null()) {
          if (record.object().value("kquant_results", 0) != 1)
            return fail(ErrorCode::kBadFile,
                        record.where() + ": no header of results (\"kquant_results\": 1)");
          results.header = record.object();
        } else {
          results.lines.push_back(record.object());
        }
        return {};
      },
      {.forgive_unfinished_line = true});
  if (!read) return fail(read.error());
  if (results.header.is_null())
    return fail(ErrorCode::kBadFile, path.string() + ": is empty, expected results");
  return results;
}

Result<void> check_same_results(const fs::path& path, const ResultsJson& found,
                                const ResultsJson& expected) {
  const ResultsJson a = identity(found), b = identity(expected);
  if (a == b) return {};
  std::string what;
  for (const auto& [key, value] : b.items())
    if (!a.contains(key) || a[key] != value)
      what += fmt::format("{}{}: found {}, expected {}", what.empty() ? "" : "; ", key,
                          a.contains(key) ? a[key].dump() : "nothing", value.dump());
  if (what.empty()) what = "fields that are not expected";
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("{}: holds other results ({}); remove it or write elsewhere",
                          path.string(), what));
}

Result<std::vector<ScoredItem>> scored_items(const ResultsFile& results,
                                             std::vector<std::size_t>* lines) {
  std::vector<ScoredItem> items;
  std::unordered_map<std::string, std::size_t> index;
  std::vector<std::vector<std::size_t>> lines_of;
  for (std::size_t i = 0; i < results.lines.size(); ++i) {
    const ResultsJson& line = results.lines[i];
    if (!line.contains("id") || !line["id"].is_string() || !line.contains("output") ||
        !line["output"].is_string())
      return fail(ErrorCode::kBadFile, fmt::format("sample {}: has no id or no output", i + 1));
    const auto [found, is_new] = index.emplace(line["id"].get<std::string>(), items.size());
    if (is_new) {
      items.emplace_back();
      items.back().id = found->first;
      items.back().category = line.value("category", "");
      lines_of.emplace_back();
    }
    ScoredItem& item = items[found->second];
    item.outputs.push_back(line["output"].get<std::string>());
    lines_of[found->second].push_back(i);
    if (!line.contains("verdict")) continue;
    Verdict verdict;
    if (line.contains("extracted") && line["extracted"].is_string())
      verdict.extracted = line["extracted"].get<std::string>();
    verdict.rejected = line.value("rejected", false);
    verdict.guessed = !verdict.extracted;
    verdict.score = line.value("score", 0.0);
    verdict.strict_score = line.value("strict_score", verdict.score);
    item.verdicts.push_back(std::move(verdict));
  }
  if (lines)
    for (const auto& of_item : lines_of)
      lines->insert(lines->end(), of_item.begin(), of_item.end());
  return items;
}

Result<void> write_results(const fs::path& path, const ResultsFile& results) {
  auto file = AtomicFile::create(path);
  if (!file) return fail(file.error());
  const auto write = [&](const ResultsJson& line) {
    const std::string text = json_line(line);
    return file->write(std::as_bytes(std::span(text)));
  };
  if (auto written = write(results.header); !written) return written;
  for (const ResultsJson& line : results.lines)
    if (auto written = write(line); !written) return written;
  return file->commit();
}

Result<ResultsWriter> ResultsWriter::open(const fs::path& path, const ResultsJson& header,
                                          ResultsFile& so_far) {
  std::error_code error;
  if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
  bool is_new = !fs::exists(path, error);
  if (!is_new) {
    if (auto cut = cut_unfinished_line(path); !cut) return fail(cut.error());
    is_new = fs::file_size(path, error) == 0;
  }
  if (!is_new) {
    auto found = read_results(path);
    if (!found) return fail(found.error());
    if (auto same = check_same_results(path, found->header, header); !same)
      return fail(same.error());
    so_far = std::move(*found);
  } else {
    so_far = {header, {}};
  }
  ResultsWriter writer;
  writer.path_ = path;
  writer.file_.reset(std::fopen(path.c_str(), "ab"));
  if (!writer.file_)
    return fail(ErrorCode::kIo, fmt::format("{}: cannot write: {}", path.string(),
                                            std::generic_category().message(errno)));
  if (is_new)
    if (auto written = writer.append(header); !written) return fail(written.error());
  return writer;
}

Result<void> ResultsWriter::append(const ResultsJson& line) {
  const std::string text = json_line(line);
  if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size() ||
      std::fflush(file_.get()) != 0)
    return fail(ErrorCode::kIo, fmt::format("{}: cannot write: {}", path_.string(),
                                            std::generic_category().message(errno)));
  return {};
}

}  // namespace kquant
