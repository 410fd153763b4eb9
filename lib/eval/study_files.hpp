#pragma once
// Where a study keeps what.

#include <fmt/format.h>

#include <filesystem>
#include <string>

#include "kquant/eval/study.hpp"

namespace kquant {

class StudyFiles {
 public:
  explicit StudyFiles(std::filesystem::path folder) : folder_(std::move(folder)) {}

  std::filesystem::path quantized(const std::string& model, const std::string& level) const {
    return folder_ / "models" / fmt::format("{}-{}.gguf", model, level);
  }
  /// What a quantized file was made of, beside it.
  std::filesystem::path origin(const std::string& model, const std::string& level) const {
    return folder_ / "models" / fmt::format("{}-{}.json", model, level);
  }
  std::filesystem::path cell(const std::string& model, const std::string& level) const {
    return folder_ / "results" / model / level;
  }
  std::filesystem::path results(const std::string& model, const std::string& level,
                                const std::string& task, const Shard& shard = {}) const {
    const std::string part =
        shard.count > 1 ? fmt::format(".shard-{}-of-{}", shard.index, shard.count) : "";
    return cell(model, level) / fmt::format("{}{}.jsonl", task, part);
  }
  std::filesystem::path facts(const std::string& model, const std::string& level) const {
    return cell(model, level) / "size-and-speed.jsonl";
  }
  std::filesystem::path summary() const { return folder_ / "study.json"; }

 private:
  std::filesystem::path folder_;
};

/// Writes what a report needs to know beside the results. Errors: kIo.
Result<void> write_summary(const StudyConfig& config, const std::filesystem::path& folder);

}  // namespace kquant
