#pragma once
// One model on one benchmark: every sample's output in a file of results, judged and summed up.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "kquant/eval/batch_generation.hpp"
#include "kquant/eval/score.hpp"

namespace kquant {

/// One of `count` equal parts of a set of samples.
struct Shard {
  std::size_t index = 0, count = 1;
};

struct EvaluationOptions {
  Task task = Task::kMmluPro;
  std::filesystem::path data, shots;  ///< shots: worked examples; empty: none but built-in ones
  std::optional<Mode> mode;           ///< empty: the benchmark's default
  bool chat = false;                  ///< in the model's chat template
  std::size_t limit = 0;              ///< items at most, drawn by `seed`; 0: all
  std::uint64_t seed = 1;             ///< of the draw of items and of sampling
  std::size_t samples = 1;            ///< of each item
  SamplerOptions sampler{.temperature = 0, .top_k = 0, .top_p = 0.95f};
  std::size_t context = 0;     ///< tokens of prompt and answer; 0: the model's, at most 4096
  std::size_t max_tokens = 0;  ///< of an answer; 0: what the benchmark says
  std::size_t batch = 32;
  bool share_prefixes = true;
  Shard shard;
  ScoreOptions score;
  /// After each sample; return false to stop (kInvalidArgument "interrupted"); what is done is
  /// kept.
  std::function<bool(std::size_t done, std::size_t total)> progress = {};
};

/// Who is evaluated: the model's name, the hash of its file's contents, and what activations it was
/// loaded for, which its answers depend on.
struct ModelIdentity {
  std::string name, hash;
  ActivationPrecision activations = ActivationPrecision::kInt8;
};
/// Of a model that is loaded without options. Errors: kIo.
Result<ModelIdentity> identify(const std::filesystem::path& model);

struct Evaluation {
  Task task = Task::kMmluPro;
  Mode mode = Mode::kDirect;
  Summary summary;
  std::size_t too_long = 0;     ///< prompts longer than the context: not asked, without an answer
  std::size_t fewer_shots = 0;  ///< samples whose prompt has fewer examples than there are
  bool has_shots = false;
  GenerationCounts counts;  ///< of this run
};

/// Asks what `results` does not hold yet, and leaves the file complete and judged. The same file
/// serves a run that was killed: it goes on.
/// Errors: kInvalidArgument (`results` holds those of another model, other data or settings; a mode
/// the benchmark does not have; interrupted), kNotFound and kUnsupported (chat templates; a model
/// without the special tokens of its template), those of Benchmark::load() and generate().
Result<Evaluation> evaluate(Transformer& model, const ModelIdentity& identity,
                            const EvaluationOptions& options, const std::filesystem::path& results);

/// Whether `results` has all that evaluate() would ask of a model with this `context_length`, so
/// that the model need not be loaded. Errors: as evaluate().
Result<bool> is_evaluated(const ModelIdentity& identity, int context_length,
                          const EvaluationOptions& options, const std::filesystem::path& results);

/// The outputs of a complete or unfinished file of results, judged anew without the model. `data`
/// empty: the file that the header names; its contents must be the same.
Result<Evaluation> score_results(const std::filesystem::path& results,
                                 const std::filesystem::path& data, const ScoreOptions& options,
                                 const std::filesystem::path& verdicts = {});

}  // namespace kquant
