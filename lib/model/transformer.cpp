#include "kquant/model/transformer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "model/forward.hpp"

namespace kquant {

struct Transformer::State {
  gguf::File file;
  Config config;
  Tokenizer tokenizer;
  std::unique_ptr<Backend> backend;

  // Scratch, grown to the largest batch seen.
  std::vector<Piece> pieces;
  std::vector<const KvCache*> caches;
  std::vector<int> sizes;

  Result<void> check(const Sequence& sequence) const;
  Result<void> check(std::span<const Sequence> batch, std::size_t rows);

  /// Cuts a batch into chunks; fn(first, outputs) is to run `pieces`, whose outputs are those from
  /// the first-th of the batch on. After an error the caches are as before.
  template <class Fn>
  Result<void> run(std::span<const Sequence> batch, const Fn& fn);
};

Result<void> Transformer::State::check(const Sequence& sequence) const {
  const auto& [tokens, cache, outputs] = sequence;
  if (tokens.empty()) return fail(ErrorCode::kInvalidArgument, "forward: no tokens");
  if (cache == nullptr) return fail(ErrorCode::kInvalidArgument, "forward: no cache");
  if (outputs > tokens.size())
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("forward: {} rows of output asked for, but {} tokens given", outputs,
                            tokens.size()));
  if (!CacheAccess(*cache).fits(config))
    return fail(ErrorCode::kInvalidArgument, "forward: the cache was made for another model");
  if (auto checked = backend->check(*cache); !checked) return checked;
  const auto room = static_cast<std::size_t>(cache->capacity() - cache->size());
  if (tokens.size() > room)
    return fail(ErrorCode::kOutOfRange,
                fmt::format("context overflow: {} tokens after {}, but the cache has a capacity "
                            "of {} tokens",
                            tokens.size(), cache->size(), cache->capacity()));
  for (const Token token : tokens)
    if (token < 0 || token >= config.vocab_size)
      return fail(ErrorCode::kOutOfRange, fmt::format("token id {} is outside the vocabulary of {}",
                                                      token, config.vocab_size));
  return {};
}

/// `rows`: of the caller's output.
Result<void> Transformer::State::check(std::span<const Sequence> batch, std::size_t rows) {
  if (batch.empty()) return fail(ErrorCode::kInvalidArgument, "forward: no sequences");
  caches.clear();
  std::size_t outputs = 0;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (auto checked = check(batch[i]); !checked) {
      if (batch.size() == 1) return checked;
      return fail(checked.error(), fmt::format("sequence {}", i));
    }
    outputs += batch[i].outputs;
    caches.push_back(batch[i].cache);
  }
  if (rows != outputs)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("forward: {} outputs asked for, but room for {}", outputs, rows));
  std::ranges::sort(caches);
  if (std::ranges::adjacent_find(caches) != caches.end())
    return fail(ErrorCode::kInvalidArgument, "forward: two sequences share one cache");
  return {};
}

template <class Fn>
Result<void> Transformer::State::run(std::span<const Sequence> batch, const Fn& fn) {
  std::size_t first = 0, rows = 0, outputs = 0;  // outputs done; tokens, outputs gathered
  sizes.clear();
  for (const Sequence& sequence : batch) sizes.push_back(sequence.cache->size());
  Result<void> result;
  const auto flush = [&] {
    if (result) result = fn(first, outputs);
    first += outputs;
    rows = outputs = 0;
    pieces.clear();
  };
  pieces.clear();
  for (const auto& [tokens, cache, wanted] : batch) {
    const std::size_t skipped = tokens.size() - wanted;
    for (std::size_t begin = 0, end; begin < tokens.size(); begin = end) {
      if (rows == Backend::kChunk) flush();
      end = std::min(begin + Backend::kChunk - rows, tokens.size());
      rows += end - begin;
      pieces.push_back({.tokens = tokens.subspan(begin, end - begin),
                        .cache = cache,
                        .outputs = end - std::clamp(skipped, begin, end)});
      outputs += pieces.back().outputs;
    }
  }
  flush();
  if (!result)
    for (std::size_t i = 0; i < batch.size(); ++i) batch[i].cache->truncate(sizes[i]);
  return result;
}

namespace {
Result<void> check_cols(std::string_view what, std::size_t found, int expected) {
  if (found == static_cast<std::size_t>(expected)) return {};
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("{}: found {} columns, expected {}", what, found, expected));
}
}  // namespace

std::string_view name(Stage stage) {
  constexpr std::array<std::string_view, kStages> kNames{
      "embedding", "norm",       "qkv",  "rope",     "attention", "attention output",
      "gate, up",  "activation", "down", "residual", "logits"};
  return kNames[static_cast<std::size_t>(stage)];
}

Transformer::Transformer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Transformer::Transformer(Transformer&&) noexcept = default;
Transformer& Transformer::operator=(Transformer&&) noexcept = default;
Transformer::~Transformer() = default;

Result<Transformer> Transformer::load(const std::filesystem::path& path,
                                      const LoadOptions& options) {
  auto file = gguf::File::open(path);
  if (!file) return fail(file.error());
  return load(std::move(*file), options);
}

Result<Transformer> Transformer::load(gguf::File file, const LoadOptions& options) {
  auto config = read_config(file);
  if (!config) return fail(config.error());
  auto weights = read_weights(file, *config);
  if (!weights) return fail(weights.error());
  auto tokenizer = Tokenizer::load(file);
  if (!tokenizer) return fail(tokenizer.error());
  std::unique_ptr<Backend> backend;
  if (options.accelerator != nullptr) {
    auto loaded = options.accelerator->load(*config, *weights);
    if (!loaded) return fail(loaded.error(), file.path().string());
    backend = std::move(*loaded);
  } else {
    const bool floats = options.activations == ActivationPrecision::kFloat;
    if (floats && options.weights == Layout::kRows)
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{}: float activations take an F32 copy of the weights, which then "
                              "cannot be used where they lie in the file",
                              file.path().string()));
    Result<void> copied;
    if (floats)
      copied = dequantize_weights(file, *weights);
    else if (options.weights == Layout::kPacked)
      copied = pack_weights(file, *weights);
    if (!copied) return fail(copied.error());
    backend = std::make_unique<ForwardPass>(*config, std::move(*weights));
  }
  return Transformer(std::unique_ptr<State>(new State{
      std::move(file), std::move(*config), std::move(*tokenizer), std::move(backend), {}, {}, {}}));
}

const Config& Transformer::config() const {
  return state_->config;
}
const Tokenizer& Transformer::tokenizer() const {
  return state_->tokenizer;
}
const gguf::File& Transformer::file() const {
  return state_->file;
}
void Transformer::observe(Observer observer) {
  state_->backend->observer = std::move(observer);
}

void Transformer::profile(Profiler profiler) {
  state_->backend->profiler = std::move(profiler);
}

Result<void> Transformer::forward(std::span<const Token> tokens, KvCache& cache,
                                  Span2d<float> logits) {
  const Sequence sequence{tokens, &cache, logits.rows};
  return forward_batch({&sequence, 1}, logits);
}

Result<void> Transformer::forward_batch(std::span<const Sequence> sequences, Span2d<float> logits) {
  if (auto checked = state_->check(sequences, logits.rows); !checked) return checked;
  if (logits.rows > 0)
    if (auto checked = check_cols("logits", logits.cols, config().vocab_size); !checked)
      return checked;
  return state_->run(sequences, [&](std::size_t first, std::size_t outputs) {
    return state_->backend->run_to_logits(state_->pieces, logits.middle_rows(first, outputs));
  });
}

Result<void> Transformer::hidden_states(std::span<const Token> tokens, KvCache& cache,
                                        Span2d<float> hidden) {
  const Sequence sequence{tokens, &cache, hidden.rows};
  return hidden_states_batch({&sequence, 1}, hidden);
}

Result<void> Transformer::hidden_states_batch(std::span<const Sequence> sequences,
                                              Span2d<float> hidden) {
  if (auto checked = state_->check(sequences, hidden.rows); !checked) return checked;
  if (hidden.rows > 0)
    if (auto checked = check_cols("hidden states", hidden.cols, config().n_embd); !checked)
      return checked;
  return state_->run(sequences, [&](std::size_t first, std::size_t) -> Result<void> {
    const auto states = state_->backend->run(state_->pieces);
    if (!states) return fail(states.error());
    for (std::size_t row = 0; row < states->rows; ++row)
      std::ranges::copy(states->row(row), hidden.row(first + row).begin());
    return {};
  });
}

Result<void> Transformer::project(Span2d<const float> hidden, Span2d<float> logits) {
  if (auto checked = check_cols("hidden states", hidden.cols, config().n_embd); !checked)
    return checked;
  if (auto checked = check_cols("logits", logits.cols, config().vocab_size); !checked)
    return checked;
  if (hidden.rows != logits.rows)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("project: {} rows of hidden states, but {} of logits", hidden.rows,
                            logits.rows));
  if (hidden.rows == 0) return {};
  return state_->backend->project(hidden, logits);
}

}  // namespace kquant
