#pragma once
// One function a command: declares its options on `app` and returns nothing; the work is done when
// CLI11 runs the command's callback. A command reports failure by throwing Failure, which main()
// prints as one line and turns into the exit code.

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <utility>

#include "kquant/base/error.hpp"
#include "kquant/cuda.hpp"
#include "kquant/eval/evaluation.hpp"
#include "kquant/model/transformer.hpp"

namespace kquant::cli {

/// What a command ends with when it cannot do its work.
struct Failure {
  Error error;
};

/// The value of a result, or Failure.
template <class T>
T value_of(Result<T> result) {
  if (!result) throw Failure{std::move(result.error())};
  return std::move(*result);
}
inline void check(const Result<void>& result) {
  if (!result) throw Failure{result.error()};
}
[[noreturn]] inline void give_up(ErrorCode code, std::string message) {
  throw Failure{Error{code, std::move(message)}};
}

/// --keep-mapped and --activations, for commands that run a model.
void add_load_options(CLI::App& command, LoadOptions& options);
/// --device, for commands that run a model.
void add_device_option(CLI::App& command, LoadOptions& options);
/// The same: `what` is done there, and use() is called with the GPU if it is to be one.
void add_device_option(CLI::App& command, const std::string& what,
                       std::function<void(const cuda::Device&)> use);
/// --kv-type
void add_kv_option(CLI::App& command, KvType& type);

void add_inspect(CLI::App& app);
void add_quantize(CLI::App& app);
void add_imatrix(CLI::App& app);
void add_run(CLI::App& app);
void add_perplexity(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_blocks(CLI::App& app);
void add_score(CLI::App& app);
void add_eval(CLI::App& app);
void add_study(CLI::App& app);
void add_report(CLI::App& app);

/// What came of an evaluation, for people.
void print(const Evaluation& evaluation);

}  // namespace kquant::cli
