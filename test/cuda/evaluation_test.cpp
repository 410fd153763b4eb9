// What is measured with a model on a device is what is measured on the CPU: perplexity, batched
// answers; with the embedded model, and with a real one where there is its file. An emulated device
// takes long for a token: it has few.
#include <algorithm>
#include <string>

#include "kquant/eval/batch_generation.hpp"
#include "kquant/eval/perplexity.hpp"
#include "kquant/quantize_model.hpp"
#include "models.hpp"

using namespace kquant;
using test::distance, test::embedded, test::load, test::some_tokens;

namespace {

void check_perplexity(Transformer& on_device, Transformer& on_cpu,
                      const PerplexityOptions& options) {
  const std::string text =
      test::read_text(test::source_path("examples/embedded_model/text_test.txt"));
  const auto expected = perplexity(on_cpu, text, options);
  const auto found = perplexity(on_device, text, options, &on_cpu);  // whose cache is always F16
  REQUIRE(expected);
  if (!found) FAIL(found.error().message);
  INFO("perplexity " << found->perplexity << " on the device, " << expected->perplexity
                     << " on the CPU, divergence " << found->divergence->kl.mean);
  CHECK(found->chunks == options.chunks);
  CHECK(found->perplexity == Approx(expected->perplexity).epsilon(0.002));
  CHECK(found->divergence->kl.mean < 1e-3);
}

std::vector<std::string> answers(Transformer& model, std::size_t n, std::size_t max_tokens,
                                 std::size_t batch) {
  const char* const people[] = {"Rosa", "Ben", "Kurt", "Lea", "Everybody"};
  std::vector<GenerationRequest> requests;
  for (std::size_t i = 0; i < n; ++i) {
    const auto tokens = model.tokenizer().encode(
        std::string(
            "Kurt and Lea are in the porch. Everybody knows that the watch is in the drawer ") +
        (i < 5 ? "" : "and the ball is in the trunk. ") + people[i % 5]);
    REQUIRE(tokens);
    // Of different lengths, so that places are given on.
    requests.push_back({*tokens, std::max<std::size_t>(max_tokens - i % 3, 1), i});
  }
  std::vector<std::string> texts(n);
  const auto source = make_logits_source(model);
  GenerationOptions options;
  options.batch = batch;
  const auto counts =
      generate(*source, model.tokenizer(), requests, options, [&](std::size_t i, Generated result) {
        texts[i] = std::move(result.text);
        return true;
      });
  if (!counts) FAIL(counts.error().message);
  CHECK(counts->shared_tokens > 0);
  return texts;
}

}  // namespace

TEST_CASE("the embedded model's perplexity is the CPU's, within 0.2 %", "[whole]") {
  const auto device = test::device();
  if (!device) return;
  PerplexityOptions options{.context = 256, .chunks = 16};
  if (test::emulated()) options = {.context = 32, .chunks = 2};
  for (const KvType type : {KvType::kF16, KvType::kQ8_0}) {
    INFO((type == KvType::kF16 ? "f16" : "q8_0"));
    options.kv_type = type;
    Transformer on_device = load(embedded(), device->accelerator());
    Transformer on_cpu = load(embedded(), nullptr);
    check_perplexity(on_device, on_cpu, options);
  }
  const test::TempDir folder;
  options.kv_type = KvType::kF16;
  test::quantize(embedded(), folder / "q4.gguf", "Q4_K_M", {.effort = Effort::kFast});
  Transformer on_device = load(folder / "q4.gguf", device->accelerator());
  Transformer on_cpu = load(folder / "q4.gguf", nullptr);
  check_perplexity(on_device, on_cpu, options);
}

TEST_CASE("batches of prompts are answered on the device as on the CPU") {
  const auto device = test::device();
  if (!device) return;
  const std::size_t n = test::emulated() ? 5 : 10, max_tokens = test::emulated() ? 4 : 24;
  Transformer on_device = load(embedded(), device->accelerator());
  Transformer on_cpu = load(embedded(), nullptr);
  const auto expected = answers(on_cpu, n, max_tokens, 3);
  const auto found = answers(on_device, n, max_tokens, 3);
  std::size_t same = 0;
  for (std::size_t i = 0; i < n; ++i) {
    INFO(i << ": '" << found[i] << "', on the CPU '" << expected[i] << "'");
    CHECK(!found[i].empty());
    same += found[i] == expected[i];
  }
  // Two logits that are nearly equal may change places.
  CHECK(same >= n - n / 8);
}

TEST_CASE("a real model's logits and perplexity are the CPU's") {
  const auto device = test::device();
  const auto path = test::model_path("gemma-3-270m-q4_k_m.gguf");
  if (!device || !path) return;
  Transformer on_device = load(*path, device->accelerator());
  Transformer on_cpu = load(*path, nullptr);
  const std::size_t prompt = test::emulated() ? 3 : 300, steps = test::emulated() ? 1 : 8;
  const auto tokens = some_tokens(on_cpu, prompt + steps);
  const auto logits = [&](Transformer& model) {
    KvCache cache(model.config(), 512);
    auto all = test::logits_of(model, std::span(tokens).first(prompt), cache, 2);
    for (std::size_t i = 0; i < steps; ++i) {
      const auto one = test::logits_of(model, std::span(tokens).subspan(prompt + i, 1), cache, 1);
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  };
  CHECK(distance(logits(on_device), logits(on_cpu)) < 1e-2);
  PerplexityOptions options{.context = 512, .chunks = 8};
  if (test::emulated()) options = {.context = 64, .chunks = 1};
  check_perplexity(on_device, on_cpu, options);
}
