#include "kquant/eval/perplexity.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "eval/window_scores.hpp"
#include "eval/windows.hpp"

namespace kquant {
namespace {

/// Logits are made for this many positions at a time: 64 x 262,144 floats are 64 MiB.
constexpr std::size_t kSlice = 64;

/// One model reading window after window.
class Reader {
 public:
  Reader(Transformer& model, std::size_t context, std::size_t scored, KvType kv_type)
      : model_(model),
        cache_(model.config(), static_cast<int>(context), kv_type),
        scored_(scored),
        hidden_(scored * width(model.config().n_embd)),
        logits_(std::min(kSlice, scored) * width(model.config().vocab_size)) {}

  /// Hidden states of the last `scored` tokens.
  Result<void> read(std::span<const Token> tokens) {
    const auto start = std::chrono::steady_clock::now();
    cache_.clear();
    auto done = model_.hidden_states(tokens, cache_, hidden());
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return done;
  }

  Result<Span2d<const float>> logits(std::size_t first, std::size_t count) {
    const auto start = std::chrono::steady_clock::now();
    const Span2d<float> out(logits_.data(), count, width(model_.config().vocab_size));
    if (auto done = model_.project(hidden().middle_rows(first, count), out); !done)
      return fail(done.error());
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return out;
  }

  double seconds() const { return seconds_; }

 private:
  static std::size_t width(int n) { return static_cast<std::size_t>(n); }
  Span2d<float> hidden() { return {hidden_.data(), scored_, width(model_.config().n_embd)}; }

  Transformer& model_;
  KvCache cache_;
  std::size_t scored_;
  std::vector<float> hidden_, logits_;
  double seconds_ = 0;
};

Result<void> check_same_vocabulary(const Tokenizer& a, const Tokenizer& b) {
  if (a.size() != b.size())
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("the vocabularies differ: the model has {} tokens, the reference {}",
                            a.size(), b.size()));
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto token = static_cast<Token>(i);
    if (a.stored_text(token) != b.stored_text(token))
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("the vocabularies differ: token {} of the model is '{}', of the "
                              "reference '{}'",
                              i, a.stored_text(token), b.stored_text(token)));
  }
  return {};
}

/// A position's scores; only nll counts where there is no reference.
void score(Span2d<const float> logits, const Span2d<const float>* reference,
           std::span<const Token> targets, std::span<Comparison> out) {
#pragma omp parallel for schedule(dynamic)
  for (std::size_t i = 0; i < logits.rows; ++i) {
    if (reference)
      out[i] = compare(logits.row(i), reference->row(i), targets[i]);
    else
      out[i].nll = negative_log_likelihood(logits.row(i), targets[i]);
  }
}

Estimate nll_of(std::span<const Comparison> scores) {
  std::vector<double> values;
  values.reserve(scores.size());
  for (const Comparison& score : scores) values.push_back(score.nll);
  return mean_of(values);
}

}  // namespace

// Of a window of n tokens, those at n/2 + 1 … n - 1 are scored, each predicted from all before it.
//
//     BOS . . . . . . . | first . . . . . . .
//                         -> x  x x x x x x      n - 1 - n/2 scores
Result<PerplexityResult> go_on_with_perplexity(Transformer& model, std::string_view text,
                                               const PerplexityOptions& options,
                                               Transformer* reference, WindowScores known,
                                               const OnWindow& on_window) {
  const auto windows = Windows::cut(model.tokenizer(), text, options.context, options.chunks);
  if (!windows) return fail(windows.error());
  if (reference)
    if (auto same = check_same_vocabulary(model.tokenizer(), reference->tokenizer()); !same)
      return fail(same.error());

  const std::size_t context = windows->context();
  const std::size_t first = context / 2, scored = scored_in_window(options.context);
  Reader reader(model, context, scored, options.kv_type);
  std::optional<Reader> reference_reader;
  if (reference) reference_reader.emplace(*reference, context, scored, KvType::kF16);

  std::vector<Comparison> scores = std::move(known.scores);
  for (std::size_t i = scores.size() / scored; i < windows->count(); ++i) {
    const double seconds_before = reader.seconds();
    const std::vector<Token> tokens = windows->window(i);
    const auto input = std::span(tokens).first(context - 1);  // the last one is only predicted
    if (auto done = reader.read(input); !done) return fail(done.error());
    if (reference)
      if (auto done = reference_reader->read(input); !done) return fail(done.error());
    for (std::size_t at = 0; at < scored; at += kSlice) {
      const std::size_t n = std::min(kSlice, scored - at);
      const auto logits = reader.logits(at, n);
      if (!logits) return fail(logits.error());
      Result<Span2d<const float>> other;
      if (reference) other = reference_reader->logits(at, n);
      if (!other) return fail(other.error());
      scores.resize(scores.size() + n);
      score(*logits, reference ? &*other : nullptr, std::span(tokens).subspan(first + 1 + at, n),
            std::span(scores).last(n));
    }
    for (std::size_t s = scores.size() - scored; s < scores.size(); ++s)
      if (!std::isfinite(scores[s].nll) || !std::isfinite(scores[s].kl))
        return fail(
            ErrorCode::kBadData,
            fmt::format("{}: window {}: logits that are not finite after token {}",
                        model.file().path().string(), i, first + s - (scores.size() - scored)));
    if (on_window)
      if (auto kept = on_window({{scores.end() - static_cast<std::ptrdiff_t>(scored), scores.end()},
                                 reader.seconds() - seconds_before});
          !kept)
        return fail(kept.error());
    if (options.progress &&
        !options.progress(static_cast<int>(i + 1), static_cast<int>(windows->count()),
                          std::exp(nll_of(scores).mean)))
      return fail(ErrorCode::kInvalidArgument, "interrupted");
  }

  PerplexityResult result;
  result.nll = nll_of(scores);
  result.perplexity = std::exp(result.nll.mean);
  result.perplexity_error = result.perplexity * result.nll.error;
  result.scored_tokens = scores.size();
  result.chunks = static_cast<int>(windows->count());
  result.seconds = known.seconds + reader.seconds();
  result.tokens_per_second =
      static_cast<double>(windows->count() * (context - 1)) / std::max(result.seconds, 1e-9);
  if (reference) result.divergence = summarize(scores);
  return result;
}

Result<PerplexityResult> perplexity(Transformer& model, std::string_view text,
                                    const PerplexityOptions& options, Transformer* reference) {
  return go_on_with_perplexity(model, text, options, reference, {}, {});
}

}  // namespace kquant
