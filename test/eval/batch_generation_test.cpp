#include "kquant/eval/batch_generation.hpp"

#include <catch2/catch.hpp>
#include <map>

#include "eval/scores.hpp"
#include "kquant/eval/task.hpp"
#include "shared_data.hpp"
#include "test/model/fixture.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

Transformer embedded_model() {
  auto model = Transformer::load(source_path("examples/embedded_model/embedded.gguf"));
  REQUIRE(model);
  return std::move(*model);
}

std::vector<GenerationRequest> some_requests(const Tokenizer& tokenizer, std::size_t n,
                                             std::size_t max_tokens) {
  const auto benchmark =
      Benchmark::load(Task::kMmluPro, source_path("examples/embedded_model/eval/mmlu_pro.jsonl"),
                      source_path("examples/embedded_model/eval/mmlu_pro_validation.jsonl"));
  REQUIRE(benchmark);
  std::vector<GenerationRequest> requests;
  for (std::size_t i = 0; i < n; ++i) {
    auto tokens = tokenizer.encode((*benchmark)->prompt(i, Mode::kCot, 2));
    REQUIRE(tokens);
    requests.push_back({*tokens, max_tokens, i});
  }
  return requests;
}

/// The plain way: one prompt, one token after another.
std::string alone(Transformer& model, const GenerationRequest& request,
                  const GenerationOptions& options) {
  SamplerOptions sampling = options.sampler;
  sampling.seed = request.seed;
  Sampler sampler(sampling);
  KvCache cache(model.config(), 1000);
  std::vector<float> logits = logits_of(model, request.prompt, cache, 1);
  std::string text;
  for (std::size_t i = 0; i < request.max_tokens; ++i) {
    const Token token = sampler.sample(logits);
    if (model.tokenizer().ends_generation(token)) break;
    text += model.tokenizer().piece(token);
    for (const std::string& stop : options.stops)
      if (const auto at = text.find(stop); at != text.npos) return text.substr(0, at);
    logits = logits_of(model, std::span(&token, 1), cache, 1);
  }
  return text;
}

}  // namespace

TEST_CASE("a batch generates what each prompt generates alone") {
  Transformer model = embedded_model();
  const auto requests = some_requests(model.tokenizer(), 24, 40);
  const auto source = make_logits_source(model);
  for (const float temperature : {0.0f, 1.0f})
    for (const std::size_t batch : {1u, 7u, 64u}) {
      INFO(temperature << " " << batch);
      GenerationOptions options;
      options.sampler = {.temperature = temperature, .top_k = 0, .top_p = 0.95f};
      options.stops = {"Question:", "ver is ("};
      options.batch = batch;
      std::map<std::size_t, Generated> results;
      const auto counts = generate(*source, model.tokenizer(), requests, options,
                                   [&](std::size_t i, Generated result) {
                                     CHECK(results.emplace(i, std::move(result)).second);
                                     return true;
                                   });
      REQUIRE(counts);
      REQUIRE(results.size() == requests.size());
      std::size_t tokens = 0, prompts = 0;
      for (std::size_t i = 0; i < requests.size(); ++i) {
        CHECK(results[i].text == alone(model, requests[i], options));
        tokens += results[i].tokens;
        prompts += requests[i].prompt.size();
      }
      CHECK(counts->generated_tokens == tokens);
      CHECK(counts->prompt_tokens < prompts);  // the examples of a category were computed once
      CHECK(counts->prompt_tokens + counts->shared_tokens >= prompts);
    }
}

TEST_CASE("generation ends at stop texts, at the limit, and when told to") {
  Transformer model = embedded_model();
  auto requests = some_requests(model.tokenizer(), 3, 5);
  const auto source = make_logits_source(model);
  std::vector<Generated> results;
  const auto keep = [&](std::size_t, Generated result) {
    results.push_back(std::move(result));
    return true;
  };
  REQUIRE(generate(*source, model.tokenizer(), requests, {}, keep));
  for (const Generated& result : results) {
    CHECK(result.finish == Finish::kLength);
    CHECK(result.tokens == 5);
  }
  results.clear();
  GenerationOptions stops;
  stops.stops = {" of "};
  for (auto& request : requests) request.max_tokens = 40;
  REQUIRE(generate(*source, model.tokenizer(), requests, stops, keep));
  for (const Generated& result : results) {
    CHECK(result.finish == Finish::kStop);
    CHECK(result.text.find(" of ") == std::string::npos);
  }
  int calls = 0;
  const auto stopped =
      generate(*source, model.tokenizer(), requests, {}, [&](std::size_t, const Generated&) {
        ++calls;
        return false;
      });
  REQUIRE_FALSE(stopped);
  CHECK(calls == 1);

  requests[1].max_tokens = 2000;
  CHECK(generate(*source, model.tokenizer(), requests, {}, keep).error().code ==
        ErrorCode::kOutOfRange);
  requests[1] = {{}, 5, 0};
  CHECK(generate(*source, model.tokenizer(), requests, {}, keep).error().code ==
        ErrorCode::kInvalidArgument);
  CHECK(generate(*source, model.tokenizer(), {}, {}, keep)->generated_tokens == 0);
}

TEST_CASE("log-likelihoods of continuations are those of reading them alone") {
  Transformer model = embedded_model();
  const auto source = make_logits_source(model);
  const auto prompt = model.tokenizer().encode("Rosa moves the coin to the");
  std::vector<std::vector<Token>> continuations;
  for (const char* const text : {" bag", " box. Ben does not see it", " zzz"})
    continuations.push_back(*model.tokenizer().encode(text, {.add_special = false}));
  const auto scores = mean_log_likelihoods(*source, *prompt, continuations);
  REQUIRE(scores);
  for (std::size_t i = 0; i < continuations.size(); ++i) {
    std::vector<Token> whole = *prompt;
    whole.insert(whole.end(), continuations[i].begin(), continuations[i].end());
    KvCache cache(model.config(), 100);
    const auto logits = logits_of(model, whole, cache, continuations[i].size() + 1);
    const std::size_t vocab = source->vocab_size();
    double sum = 0;
    for (std::size_t t = 0; t < continuations[i].size(); ++t)
      sum -=
          negative_log_likelihood(std::span(logits).subspan(t * vocab, vocab), continuations[i][t]);
    CHECK((*scores)[i] == Approx(sum / double(continuations[i].size())).epsilon(1e-12));
  }
  CHECK((*scores)[0] > (*scores)[2]);
}
