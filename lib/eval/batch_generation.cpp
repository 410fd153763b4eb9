#include "kquant/eval/batch_generation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>

#include "eval/scores.hpp"

namespace kquant {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::size_t common_prefix(std::span<const Token> a, std::span<const Token> b) {
  return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

/// Of slots 0 … batch - 1 each may hold a sequence; slot `batch` holds the prefix shared by the
/// prompts that are next.
class Engine {
 public:
  Engine(LogitsSource& source, const Tokenizer& tokenizer,
         std::span<const GenerationRequest> requests, const GenerationOptions& options)
      : source_(source),
        tokenizer_(tokenizer),
        requests_(requests),
        options_(options),
        order_(requests.size()),
        slots_(std::min(std::max<std::size_t>(options.batch, 1), requests.size())) {
    // Sorted, prompts that begin alike are neighbours.
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::ranges::stable_sort(order_, [&](std::size_t a, std::size_t b) {
      return std::ranges::lexicographical_compare(requests_[a].prompt, requests_[b].prompt);
    });
  }

  Result<GenerationCounts> run(const std::function<bool(std::size_t, Generated)>& done) {
    const auto start = Clock::now();
    std::size_t capacity = 1;
    for (const GenerationRequest& request : requests_) {
      const std::size_t needed = request.prompt.size() + request.max_tokens;
      if (request.prompt.empty()) return fail(ErrorCode::kInvalidArgument, "an empty prompt");
      if (needed > source_.context())
        return fail(
            ErrorCode::kOutOfRange,
            fmt::format("a prompt of {} tokens and an answer of {} do not fit a context of {}",
                        request.prompt.size(), request.max_tokens, source_.context()));
      capacity = std::max(capacity, needed);
    }
    if (auto made = source_.make_slots(slots_.size() + 1, capacity); !made)
      return fail(made.error());
    logits_.resize(slots_.size() * source_.vocab_size());
    while (true) {
      if (auto filled = fill(done); !filled) return fail(filled.error());
      if (interrupted_) return fail(ErrorCode::kInvalidArgument, "interrupted");
      steps_.clear();
      for (std::size_t i = 0; i < slots_.size(); ++i)
        if (slots_[i]) steps_.push_back({i, slots_[i]->pending, 1});
      if (steps_.empty()) break;
      if (auto ran = source_.run(steps_, {logits_.data(), steps_.size(), source_.vocab_size()});
          !ran)
        return fail(ran.error());
      if (!advance(done)) return fail(ErrorCode::kInvalidArgument, "interrupted");
    }
    counts_.seconds = seconds_since(start);
    return counts_;
  }

 private:
  struct Running {
    std::size_t request;
    Sampler sampler;
    std::vector<Token> pending;  ///< not yet seen by the model
    Generated result;
    Clock::time_point start;
  };

  /// Gives free slots to the requests that are next.
  Result<void> fill(const std::function<bool(std::size_t, Generated)>& done) {
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
      while (!slots_[slot] && next_ < order_.size()) {
        const std::size_t index = order_[next_];
        const GenerationRequest& request = requests_[index];
        const auto start = Clock::now();
        if (request.max_tokens == 0) {
          ++next_;
          if (!done(index, {})) interrupted_ = true;
          continue;
        }
        auto shared = prepare_prefix(request);
        if (!shared) return fail(shared.error());
        ++next_;
        source_.truncate(slot, 0);
        if (*shared > 0)
          if (auto copied = source_.copy_prefix(slot, slots_.size(), *shared); !copied)
            return copied;
        counts_.shared_tokens += *shared;
        counts_.prompt_tokens += request.prompt.size() - *shared;
        SamplerOptions sampler = options_.sampler;
        sampler.seed = request.seed;
        slots_[slot].emplace(Running{
            index,
            Sampler(sampler),
            std::vector<Token>(request.prompt.begin() + static_cast<std::ptrdiff_t>(*shared),
                               request.prompt.end()),
            {},
            start});
      }
    }
    return {};
  }

  /// Has the prefix slot hold what this prompt shares with the one after it, where that is worth a
  /// pass of its own. Result: how many of the prompt's tokens can be copied from there.
  Result<std::size_t> prepare_prefix(const GenerationRequest& request) {
    constexpr std::size_t kWorthwhile = 16;
    if (!options_.share_prefixes) return 0;
    const std::span<const Token> prompt = request.prompt;
    const std::size_t most = prompt.size() - 1;  // the last token is run for its logits
    std::size_t held = std::min(common_prefix(prefix_, prompt), most);
    if (next_ + 1 < order_.size()) {
      const std::size_t wanted =
          std::min(common_prefix(prompt, requests_[order_[next_ + 1]].prompt), most);
      if (wanted >= held + kWorthwhile) {
        source_.truncate(slots_.size(), held);
        const LogitsSource::Step step{slots_.size(), prompt.subspan(held, wanted - held), 0};
        if (auto ran = source_.run({&step, 1}, {logits_.data(), 0, source_.vocab_size()}); !ran)
          return fail(ran.error());
        counts_.prompt_tokens += wanted - held;
        prefix_.assign(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(wanted));
        held = wanted;
      }
    }
    return held;
  }

  /// One token more for every running sequence. False: interrupted.
  bool advance(const std::function<bool(std::size_t, Generated)>& done) {
    const std::size_t vocab_size = source_.vocab_size();
    for (std::size_t row = 0; row < steps_.size(); ++row) {
      std::optional<Running>& slot = slots_[steps_[row].slot];
      const Token token =
          slot->sampler.sample(std::span(logits_).subspan(row * vocab_size, vocab_size));
      ++counts_.generated_tokens;
      if (!append(*slot, token)) continue;
      slot->result.seconds = seconds_since(slot->start);
      const bool go_on = done(slot->request, std::move(slot->result));
      slot.reset();
      if (!go_on) return false;
    }
    return true;
  }

  /// True where the sequence ends with this token.
  bool append(Running& running, Token token) const {
    Generated& result = running.result;
    ++result.tokens;
    if (tokenizer_.ends_generation(token)) {
      result.finish = Finish::kEnd;
      return true;
    }
    const std::string piece = tokenizer_.piece(token);
    const std::size_t before = result.text.size();
    result.text += piece;
    std::size_t cut = std::string::npos;
    for (const std::string& stop : options_.stops) {
      const std::size_t from = before - std::min(before, stop.size());  // it may have begun before
      cut = std::min(cut, result.text.find(stop, from));
    }
    if (cut != std::string::npos) {
      result.text.resize(cut);
      result.finish = Finish::kStop;
      return true;
    }
    result.finish = Finish::kLength;
    running.pending.assign(1, token);
    return result.tokens == requests_[running.request].max_tokens;
  }

  LogitsSource& source_;
  const Tokenizer& tokenizer_;
  std::span<const GenerationRequest> requests_;
  const GenerationOptions& options_;
  std::vector<std::size_t> order_;
  std::size_t next_ = 0;
  std::vector<std::optional<Running>> slots_;
  std::vector<Token> prefix_;  ///< what the prefix slot holds
  std::vector<LogitsSource::Step> steps_;
  std::vector<float> logits_;
  GenerationCounts counts_;
  bool interrupted_ = false;
};

}  // namespace

std::string_view name(Finish finish) {
  switch (finish) {
    case Finish::kEnd:
      return "end";
    case Finish::kStop:
      return "stop";
    case Finish::kLength:
      return "length";
  }
  return {};
}

Result<GenerationCounts> generate(LogitsSource& source, const Tokenizer& tokenizer,
                                  std::span<const GenerationRequest> requests,
                                  const GenerationOptions& options,
                                  const std::function<bool(std::size_t, Generated)>& done) {
  if (requests.empty()) return GenerationCounts{};
  return Engine(source, tokenizer, requests, options).run(done);
}

// Slot 0 reads the prompt but for its last token; each continuation then gets a slot that begins
// with a copy of it:
//
//     slot 0       p p p p p
//     slot i       (copied)   p c c     logits of these but the last c
Result<std::vector<double>> mean_log_likelihoods(
    LogitsSource& source, std::span<const Token> prompt,
    std::span<const std::vector<Token>> continuations) {
  if (prompt.empty()) return fail(ErrorCode::kInvalidArgument, "an empty prompt");
  std::size_t longest = 0, rows = 0;
  for (const auto& tokens : continuations) {
    longest = std::max(longest, tokens.size());
    rows += tokens.size();
  }
  if (prompt.size() + longest > source.context())
    return fail(ErrorCode::kOutOfRange,
                fmt::format("a prompt of {} tokens and a choice of {} do not fit a context of {}",
                            prompt.size(), longest, source.context()));
  if (auto made = source.make_slots(continuations.size() + 1, prompt.size() + longest); !made)
    return fail(made.error());
  const std::size_t shared = prompt.size() - 1;
  if (shared > 0) {
    const LogitsSource::Step step{0, prompt.first(shared), 0};
    if (auto ran = source.run({&step, 1}, {nullptr, 0, source.vocab_size()}); !ran)
      return fail(ran.error());
  }
  std::vector<std::vector<Token>> inputs;
  for (const auto& tokens : continuations) {
    inputs.push_back({prompt.back()});
    inputs.back().insert(inputs.back().end(), tokens.begin(), tokens.end() - 1);
  }
  std::vector<LogitsSource::Step> steps;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (shared > 0)
      if (auto copied = source.copy_prefix(i + 1, 0, shared); !copied) return fail(copied.error());
    steps.push_back({i + 1, inputs[i], inputs[i].size()});
  }
  std::vector<float> logits(rows * source.vocab_size());
  const Span2d<float> all(logits.data(), rows, source.vocab_size());
  if (auto ran = source.run(steps, all); !ran) return fail(ran.error());
  std::vector<double> out;
  std::size_t row = 0;
  for (const auto& tokens : continuations) {
    double sum = 0;
    for (const Token token : tokens) sum -= negative_log_likelihood(all.row(row++), token);
    out.push_back(sum / static_cast<double>(tokens.size()));
  }
  return out;
}

}  // namespace kquant
