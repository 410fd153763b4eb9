#include "kquant/eval/perplexity.hpp"

#include <omp.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "shared_data.hpp"
#include "test/model/fixture.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

std::string some_text() {
  std::string text;
  for (int i = 0; i < 60; ++i)
    text += "the ring of the " + std::to_string(i * i) + " bears was on a " +
            std::string(static_cast<std::size_t>(i % 7), 'z') + " mat;\n";
  return text;
}

/// -ln p(target), from the definition.
double textbook_nll(std::span<const float> logits, Token target) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit});
  return -std::log(std::exp(double{logits[static_cast<std::size_t>(target)]}) / sum);
}

Transformer changed(const std::string& gguf, const std::function<void(Model&)>& change) {
  const TempDir dir;
  write_changed(gguf, dir / "model.gguf", change);
  auto model = Transformer::load(dir / "model.gguf");
  REQUIRE(model);
  return std::move(*model);
}

}  // namespace

TEST_CASE("a model that knows nothing is as perplexed as its vocabulary is large") {
  Transformer model = changed("llama2.gguf", [](Model& m) {
    std::ranges::fill(m.tensor("output.weight").data, std::byte{0});
  });
  const auto result = perplexity(model, some_text(), {.context = 64});
  REQUIRE(result);
  CHECK(result->perplexity == Approx(128).epsilon(1e-12));
  CHECK(result->nll.error == Approx(0).margin(1e-12));
  CHECK_FALSE(result->divergence);
}

TEST_CASE("perplexity is that of the second halves of the windows") {
  for (const bool adds_bos : {false, true}) {
    Transformer model = changed("gemma3.gguf", [&](Model& m) {
      m.metadata.set_bool("tokenizer.ggml.add_bos_token", adds_bos);
    });
    const std::string text = some_text();
    const auto tokens = model.tokenizer().encode(text);
    REQUIRE(tokens);
    REQUIRE(model.tokenizer().adds_bos() == adds_bos);
    constexpr std::size_t kContext = 50, kWindows = 5, kVocab = 128;

    std::vector<double> nll;
    for (std::size_t window = 0; window < kWindows; ++window) {
      const auto begin = tokens->begin() + static_cast<std::ptrdiff_t>(window * kContext);
      std::vector<Token> input(begin, begin + kContext);
      if (adds_bos) input[0] = *model.tokenizer().bos();
      KvCache cache(model.config(), kContext);
      const auto logits = logits_of(model, input, cache, kContext);
      for (std::size_t i = kContext / 2; i + 1 < kContext; ++i)
        nll.push_back(textbook_nll(std::span(logits).subspan(i * kVocab, kVocab), input[i + 1]));
    }
    double mean = 0, variance = 0;
    for (const double x : nll) mean += x / static_cast<double>(nll.size());
    for (const double x : nll) variance += (x - mean) * (x - mean) / (double(nll.size()) - 1);

    int calls = 0;
    const auto result = perplexity(
        model, text,
        {.context = kContext, .chunks = kWindows, .progress = [&](int done, int total, double) {
           CHECK(done == ++calls);
           CHECK(total == int(kWindows));
           return true;
         }});
    REQUIRE(result);
    CHECK(calls == int(kWindows));
    CHECK(result->scored_tokens == nll.size());
    CHECK(result->perplexity == Approx(std::exp(mean)).epsilon(1e-9));
    CHECK(result->nll.error == Approx(std::sqrt(variance / double(nll.size()))).epsilon(1e-9));
    CHECK(result->perplexity_error == Approx(result->perplexity * result->nll.error));
  }
}

TEST_CASE("a model does not diverge from itself") {
  Transformer model = load_fixture("qwen3.gguf"), same = load_fixture("qwen3.gguf");
  const auto result = perplexity(model, some_text(), {.context = 128}, &same);
  REQUIRE(result);
  REQUIRE(result->divergence);
  const Divergence& d = *result->divergence;
  CHECK(d.kl.mean == 0);
  CHECK(d.kl_max == 0);
  CHECK(d.kl_median == 0);
  CHECK(d.same_top.mean == 1);
  CHECK(d.rms_probability.mean == 0);
  CHECK(d.log_ratio.mean == 0);
  CHECK(d.log_ratio.error == 0);
  CHECK(d.reference_perplexity == result->perplexity);
}

TEST_CASE("results do not depend on the number of threads") {
  const int before = omp_get_max_threads();
  Transformer model = load_fixture("qwen2.gguf"), reference = load_fixture("qwen3.gguf");
  std::vector<PerplexityResult> results;
  for (const int threads : {1, 3}) {
    omp_set_num_threads(threads);
    auto result = perplexity(model, some_text(), {.context = 150}, &reference);
    REQUIRE(result);
    results.push_back(*result);
  }
  omp_set_num_threads(before);
  CHECK(results[0].perplexity == results[1].perplexity);
  CHECK(results[0].divergence->kl.mean == results[1].divergence->kl.mean);
  CHECK(results[0].divergence->kl_p99 == results[1].divergence->kl_p99);
  CHECK(results[0].divergence->kl.mean > 0.1);
}

TEST_CASE("what cannot be measured is an error") {
  Transformer model = load_fixture("qwen3.gguf");
  const auto code = [&](std::string_view text, const PerplexityOptions& options,
                        Transformer* reference = nullptr) {
    const auto result = perplexity(model, text, options, reference);
    REQUIRE_FALSE(result);
    return result.error().code;
  };
  CHECK(code("the", {.context = 64}) == ErrorCode::kInvalidArgument);
  CHECK(code("", {.context = 64}) == ErrorCode::kInvalidArgument);
  CHECK(code(some_text(), {.context = 3}) == ErrorCode::kInvalidArgument);
  CHECK(code(some_text(), {.context = 64, .chunks = -1}) == ErrorCode::kInvalidArgument);
  const auto stop = [](int done, int, double) { return done < 2; };
  CHECK(code(some_text(), {.context = 64, .progress = stop}) == ErrorCode::kInvalidArgument);

  Transformer other = changed("qwen3.gguf", [](Model& m) {
    const auto value = m.metadata.find("tokenizer.ggml.tokens");
    const auto views = value->as_strings();
    std::vector<std::string> tokens(views->begin(), views->end());
    std::swap(tokens[20], tokens[21]);
    m.metadata.set_strings("tokenizer.ggml.tokens", tokens);
  });
  CHECK(code(some_text(), {.context = 64}, &other) == ErrorCode::kInvalidArgument);

  Transformer broken = changed("qwen3.gguf", [](Model& m) {
    auto& data = m.tensor("output_norm.weight").data;
    std::ranges::fill(data, std::byte{0xff});  // NaN
  });
  const auto result = perplexity(broken, some_text(), {.context = 64});
  REQUIRE_FALSE(result);
  CHECK(result.error().code == ErrorCode::kBadData);
}
