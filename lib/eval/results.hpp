#pragma once
// A file of results: a header that says what was asked of which model, then a line for every
// sample.
//
//     {"kquant_results":1,"task":…,"model":{…},"data":{…},"settings":{…},"complete":…}
//     {"id":…,"sample":0,"output":…,"extracted":…,"verdict":…,…}
//
// While it grows, lines are appended as samples end and the verdicts are still missing; finish()
// writes it anew, in order and judged. Two headers that agree in everything but names of files, the
// shard and "complete" describe the same results.

#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/eval/evaluation.hpp"
#include "kquant/eval/score.hpp"

namespace kquant {

using ResultsJson = nlohmann::ordered_json;

struct ResultsFile {
  ResultsJson header;
  std::vector<ResultsJson> lines;

  bool complete() const { return header.value("complete", false); }
};

/// A model as a field of a header. Of activations it says only that they are f32: those of the CPU
/// are rounded otherwise, and those of a GPU are the GPU's.
ResultsJson json_of(const ModelIdentity& model);

/// A last line that a killed writer left unfinished is ignored. Errors: kNotFound, kIo, kBadFile.
Result<ResultsFile> read_results(const std::filesystem::path& path);

/// kInvalidArgument where the headers describe different results; says in what they differ.
Result<void> check_same_results(const std::filesystem::path& path, const ResultsJson& found,
                                const ResultsJson& expected);

/// Samples of one item as one item, in the order of their lines. Verdicts are those that the lines
/// have; `lines` (if not null) gets the number of each output's line. Errors: kBadFile.
Result<std::vector<ScoredItem>> scored_items(const ResultsFile& results,
                                             std::vector<std::size_t>* lines = nullptr);

/// Writes the whole file atomically.
Result<void> write_results(const std::filesystem::path& path, const ResultsFile& results);

/// Appends lines, each reaching the system before append() returns.
class ResultsWriter {
 public:
  /// Creates the file with its header, or goes on with one that has the same (its unfinished last
  /// line cut off); `so_far` gets what it holds.
  static Result<ResultsWriter> open(const std::filesystem::path& path, const ResultsJson& header,
                                    ResultsFile& so_far);
  Result<void> append(const ResultsJson& line);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace kquant
