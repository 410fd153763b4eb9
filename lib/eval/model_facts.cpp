#include "eval/model_facts.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>

#include "eval/results.hpp"
#include "kquant/model/sampler.hpp"

namespace kquant {
namespace {

constexpr int kDecoded = 64, kPrefilled = 256;

/// Tokens a second, the median of three runs.
Result<double> median_speed(int tokens, const std::function<Result<void>()>& run) {
  std::array<double, 3> speeds{};
  for (double& speed : speeds) {
    const auto start = std::chrono::steady_clock::now();
    if (auto done = run(); !done) return fail(done.error());
    speed =
        tokens / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::ranges::sort(speeds);
  return speeds[1];
}

Result<ModelFacts> measure(Transformer& model) {
  ModelFacts facts;
  facts.bytes = model.file().total_bytes();
  double weights = 0, bits = 0;
  for (const gguf::Tensor& tensor : model.file().tensors()) {
    weights += static_cast<double>(tensor.size());
    bits += 8 * static_cast<double>(tensor.data.size());
  }
  facts.bits_per_weight = bits / weights;
  const int context = model.config().context_length;
  const int decoded = std::min(kDecoded, context), prefilled = std::min(kPrefilled, context);
  const Token first = model.tokenizer().bos().value_or(0);
  std::vector<float> logits(static_cast<std::size_t>(model.config().vocab_size));
  const Span2d<float> last(logits.data(), 1, logits.size());
  KvCache cache(model.config(), std::max(decoded, prefilled));
  const auto decode = median_speed(decoded, [&]() -> Result<void> {
    cache.clear();
    Sampler greedy({.temperature = 0});
    Token token = first;
    for (int i = 0; i < decoded; ++i) {
      if (auto done = model.forward({&token, 1}, cache, last); !done) return done;
      token = greedy.sample(logits);
    }
    return {};
  });
  if (!decode) return fail(decode.error());
  const std::vector<Token> prompt(static_cast<std::size_t>(prefilled), first);
  const auto prefill = median_speed(prefilled, [&] {
    cache.clear();
    return model.forward(prompt, cache, last);
  });
  if (!prefill) return fail(prefill.error());
  facts.decode_tokens_per_second = *decode;
  facts.prefill_tokens_per_second = *prefill;
  return facts;
}

ResultsJson header_of(const ModelIdentity& identity) {
  return {{"kquant_results", 1},
          {"task", "size-and-speed"},
          {"model", json_of(identity)},
          {"complete", true}};
}

}  // namespace

Result<ModelFacts> read_facts(const std::filesystem::path& path) {
  const auto results = read_results(path);
  if (!results) return fail(results.error());
  if (results->lines.size() != 1)
    return fail(ErrorCode::kBadFile, path.string() + ": expected one line of measures");
  const ResultsJson& line = results->lines[0];
  return ModelFacts{line.value("bytes", std::uint64_t{0}), line.value("bits_per_weight", 0.0),
                    line.value("decode_tokens_per_second", 0.0),
                    line.value("prefill_tokens_per_second", 0.0)};
}

Result<bool> is_measured(const ModelIdentity& identity, const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return false;
  const auto found = read_results(path);
  if (!found) return fail(found.error());
  if (auto same = check_same_results(path, found->header, header_of(identity)); !same)
    return fail(same.error());
  return true;
}

Result<ModelFacts> measure_model(Transformer& model, const ModelIdentity& identity,
                                 const std::filesystem::path& path) {
  const auto known = is_measured(identity, path);
  if (!known) return fail(known.error());
  if (*known) return read_facts(path);
  const auto facts = measure(model);
  if (!facts) return fail(facts.error());
  ResultsFile results{header_of(identity), {}};
  results.lines.push_back({{"bytes", facts->bytes},
                           {"bits_per_weight", facts->bits_per_weight},
                           {"decode_tokens_per_second", facts->decode_tokens_per_second},
                           {"prefill_tokens_per_second", facts->prefill_tokens_per_second}});
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  if (auto written = write_results(path, results); !written) return fail(written.error());
  return *facts;
}

}  // namespace kquant
