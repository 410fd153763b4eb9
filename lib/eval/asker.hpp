#pragma once
// Items of a benchmark as prompts of one model: examples dropped until the answer has room, and the
// model's chat template around them.

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "kquant/eval/evaluation.hpp"
#include "kquant/model/chat.hpp"

namespace kquant {

/// A prompt that fits, and how long its answer may become.
struct Asked {
  std::string text;
  std::vector<Token> tokens;
  std::size_t room = 0;  ///< 0: the prompt is too long
  int shots = 0;
};

class Asker {
 public:
  /// `window`: tokens of prompt and answer. The benchmark and the tokenizer must outlive it.
  /// Errors: kNotFound, kUnsupported (chat templates).
  static Result<Asker> create(const Benchmark& benchmark, const Tokenizer& tokenizer,
                              std::size_t window, Mode mode, const EvaluationOptions& options);

  /// With as many examples as leave room for the answer.
  Result<Asked> ask(std::size_t item) const;

 private:
  Asker(const Benchmark& benchmark, const Tokenizer& tokenizer, std::size_t window, Mode mode,
        const EvaluationOptions& options);
  std::size_t room_after(std::size_t prompt) const;

  const Benchmark* benchmark_;
  const Tokenizer* tokenizer_;
  Mode mode_;
  std::size_t window_, max_tokens_ = 0, reserve_ = 0;
  std::optional<ChatTemplate> family_;
};

}  // namespace kquant
