#pragma once
// What the benchmarks have in common: items that ask a model something, and rules that judge what
// it says. One file a benchmark: mmlu_pro.hpp, cruxeval.hpp, musr.hpp.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/eval/sandbox.hpp"

namespace kquant {

enum class Task { kMmluPro, kCruxevalO, kCruxevalI, kMusr };
inline constexpr Task kTasks[] = {Task::kMmluPro, Task::kCruxevalO, Task::kCruxevalI, Task::kMusr};
/// "mmlu-pro", "cruxeval-o", "cruxeval-i", "musr"
std::string_view name(Task task);
/// Errors: kInvalidArgument, listing the names.
Result<Task> find_task(std::string_view name);

/// How a model is asked: for the answer alone, for its reasoning first (kCotPlus: with a hint how
/// to think and a solved example), or not at all: kLoglik takes the choice that the model finds
/// most likely after the question.
enum class Mode { kDirect, kCot, kCotPlus, kLoglik };
std::string_view name(Mode mode);
Result<Mode> find_mode(std::string_view name);

/// Extraction rules of MMLU-Pro, in order; rule sets are named by their digits.
enum class MmluProRules { k1, k12, k123 };
std::string_view name(MmluProRules rules);
Result<MmluProRules> find_mmlu_pro_rules(std::string_view name);

/// What one output is worth.
struct Verdict {
  std::optional<std::string> extracted;
  /// 1 right, 0 wrong; where nothing was extracted from an answer to a multiple-choice question,
  /// the expectation of a uniform guess. By the benchmark's own rules, and by stricter ones where
  /// those have a loophole.
  double score = 0, strict_score = 0;
  bool guessed = false;   ///< nothing was extracted
  bool rejected = false;  ///< CRUXEval: not run; its own rules skip such a generation
};

struct ScoreOptions {
  MmluProRules rules = MmluProRules::k123;
  SandboxOptions sandbox = {};
};

/// One output of a model for an item.
struct Answer {
  std::size_t item = 0;
  std::string text;
};

/// The items of one file.
class Benchmark {
 public:
  /// `shots` (may be empty): a file of the same shape with worked examples.
  /// Errors: kNotFound, kIo, kBadFile (file, line and field; also two items with one id).
  static Result<std::unique_ptr<Benchmark>> load(Task task, const std::filesystem::path& data,
                                                 const std::filesystem::path& shots = {});
  virtual ~Benchmark() = default;

  virtual std::size_t size() const = 0;
  virtual const std::string& id(std::size_t item) const = 0;
  /// What results are broken down by; empty where the benchmark has no categories.
  virtual std::string_view category(std::size_t item) const = 0;

  virtual std::span<const Mode> modes() const = 0;  ///< the first is the default
  /// Examples that can stand in front of the item, at most.
  virtual int shots(std::size_t item, Mode mode) const = 0;
  /// What a model is asked, with that many examples.
  virtual std::string prompt(std::size_t item, Mode mode, int shots) const = 0;
  /// A system message for chat models; empty: none.
  virtual std::string_view system() const { return {}; }
  /// Texts at which an answer ends.
  virtual std::vector<std::string> stops(Mode mode) const = 0;
  /// Tokens an answer may have, together with its prompt where limit_includes_prompt().
  virtual int max_tokens(Mode mode) const = 0;
  virtual bool limit_includes_prompt() const { return false; }

  /// Of multiple-choice benchmarks: continuations of the kLoglik prompt, and the right one's index.
  virtual std::vector<std::string> choices(std::size_t) const { return {}; }
  virtual std::size_t right_choice(std::size_t) const { return 0; }

  /// Judges answers, in their order. Errors: kUnavailable (CRUXEval without bubblewrap).
  virtual Result<std::vector<Verdict>> judge(std::span<const Answer> answers,
                                             const ScoreOptions& options) const = 0;
};

}  // namespace kquant
