#pragma once
// Continues many prompts with one model: as soon as one answer ends, the next prompt takes its
// place, so that every pass over the weights serves a full batch; what prompts begin with in common
// is computed once.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kquant/eval/logits_source.hpp"
#include "kquant/model/sampler.hpp"
#include "kquant/model/tokenizer.hpp"

namespace kquant {

struct GenerationRequest {
  std::vector<Token> prompt;
  std::size_t max_tokens = 0;
  std::uint64_t seed = 0;  ///< of its sampler
};

enum class Finish {
  kEnd,     ///< the model ended its answer
  kStop,    ///< a stop text came
  kLength,  ///< max_tokens
};
std::string_view name(Finish finish);

struct Generated {
  std::string text;  ///< up to the stop text
  Finish finish = Finish::kLength;
  std::size_t tokens = 0;  ///< generated
  double seconds = 0;      ///< from taking its place to its end
};

struct GenerationOptions {
  SamplerOptions sampler{.temperature = 0, .top_k = 0, .top_p = 1};  ///< seed: each request's own
  std::vector<std::string> stops;
  std::size_t batch = 32;      ///< sequences side by side
  bool share_prefixes = true;  ///< false: every prompt is computed whole
};

struct GenerationCounts {
  std::size_t prompt_tokens = 0;  ///< computed, not copied from another sequence
  std::size_t shared_tokens = 0;  ///< copied
  std::size_t generated_tokens = 0;
  double seconds = 0;
};

/// Calls done(i, result) as request i ends, in whatever order, until it returns false (then:
/// kInvalidArgument "interrupted"). A result does not depend on what else is in the batch.
/// Errors: kInvalidArgument (an empty prompt), kOutOfRange (a prompt and its max_tokens do not fit
/// the context), those of the source.
Result<GenerationCounts> generate(LogitsSource& source, const Tokenizer& tokenizer,
                                  std::span<const GenerationRequest> requests,
                                  const GenerationOptions& options,
                                  const std::function<bool(std::size_t, Generated)>& done);

/// Mean log-likelihood (nats a token) of each continuation after a prompt. Precondition: no
/// continuation is empty. Errors: as generate().
Result<std::vector<double>> mean_log_likelihoods(LogitsSource& source,
                                                 std::span<const Token> prompt,
                                                 std::span<const std::vector<Token>> continuations);

}  // namespace kquant
