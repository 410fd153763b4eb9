// Whole models on the device against the CPU.
#include "kquant/quantize_model.hpp"
#include "models.hpp"

using namespace kquant;
using test::distance, test::embedded, test::load, test::some_tokens;

namespace {

/// `devices` of 0: device()'s; null: the test has said why.
std::shared_ptr<Accelerator> accelerator_of(int devices) {
  if (devices > 0) return test::tensor_parallel(devices);
  const auto device = test::device();
  return device ? device->accelerator() : nullptr;
}

}  // namespace

TEST_CASE("models of every architecture answer as the reference does") {
  const auto device = test::device();
  if (!device) return;
  for (const std::string& name : test::expectation_names()) {
    INFO(name);
    test::require_reference(test::read_expectation(name), device->accelerator());
  }
}

TEST_CASE("decoding by recorded steps, batches and shared prefixes give what prefill gives",
          "[small]") {
  // On how many devices; 0: on one, not divided.
  for (const auto& [gguf, devices] :
       {std::pair("llama3.gguf", 0), {"gemma3.gguf", 0}, {"llama3.gguf", 1}, {"gemma2.gguf", 2}})
    for (const KvType type : {KvType::kF16, KvType::kQ8_0}) {
      INFO(gguf << " " << devices << (type == KvType::kF16 ? " f16" : " q8_0"));
      const auto accelerator = accelerator_of(devices);
      if (!accelerator) continue;
      Transformer model = load(test::fixture_path(gguf), accelerator);
      const auto tokens = some_tokens(model, 14);
      KvCache whole(model.config(), 40, type);
      const auto expected = test::logits_of(model, tokens, whole, tokens.size());
      const auto vocab = static_cast<std::size_t>(model.config().vocab_size);
      const auto row = [&](std::size_t i) {
        return std::span<const float>(expected).subspan(i * vocab, vocab);
      };
      // q8_0 keys of a prompt are those of the tokens one by one.
      KvCache steps(model.config(), 40, type);
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        const auto one = test::logits_of(model, std::span(tokens).subspan(i, 1), steps, 1);
        REQUIRE(distance(one, row(i)) < 5e-3);
      }
      // Two sequences side by side, one of which began as a copy, with less room.
      KvCache copy(model.config(), 31, type);
      REQUIRE(copy.copy_prefix(whole, 7));
      REQUIRE(copy.size() == 7);
      steps.truncate(12);
      std::vector<float> logits(3 * vocab);
      const std::vector<Sequence> batch{{std::span(tokens).subspan(7, 2), &copy, 2},
                                        {std::span(tokens).subspan(12, 1), &steps, 1}};
      REQUIRE(model.forward_batch(batch, {logits.data(), 3, vocab}));
      const std::span<const float> answers(logits);
      REQUIRE(distance(answers.subspan(0, vocab), row(7)) < 5e-3);
      REQUIRE(distance(answers.subspan(vocab, vocab), row(8)) < 5e-3);
      REQUIRE(distance(answers.subspan(2 * vocab), row(12)) < 5e-3);
      const std::vector<Sequence> decode{{std::span(tokens).subspan(9, 1), &copy, 1},
                                         {std::span(tokens).subspan(13, 1), &steps, 1}};
      REQUIRE(model.forward_batch(decode, {logits.data(), 2, vocab}));
      REQUIRE(distance(answers.subspan(0, vocab), row(9)) < 5e-3);
      REQUIRE(distance(answers.subspan(vocab, vocab), row(13)) < 5e-3);
    }
}

TEST_CASE("prompts long enough for warpgroups answer as the CPU does, and tokens after them",
          "[small]") {
  const auto device = test::hopper();
  if (!device) return;
  for (const char* gguf : {"llama3.gguf", "gemma3.gguf"}) {
    INFO(gguf);
    Transformer model = load(test::fixture_path(gguf), device->accelerator());
    Transformer on_cpu = load(test::fixture_path(gguf), nullptr);
    const auto tokens = some_tokens(on_cpu, 70);
    const auto logits = [&](Transformer& transformer) {
      KvCache cache(transformer.config(), 128);
      auto all = test::logits_of(transformer, std::span(tokens).first(66), cache, 66);
      // Shorter pieces, so in the other order, in the same buffers.
      for (const std::size_t first : {66u, 69u}) {
        const auto piece = std::span(tokens).subspan(first, first == 66 ? 3 : 1);
        const auto more = test::logits_of(transformer, piece, cache, piece.size());
        all.insert(all.end(), more.begin(), more.end());
      }
      return all;
    };
    REQUIRE(distance(logits(model), logits(on_cpu)) < 1e-2);
  }
}

TEST_CASE("hidden states and their projection are the logits") {
  for (const int devices : {0, 1, 2}) {
    const auto accelerator = accelerator_of(devices);
    if (!accelerator) continue;
    Transformer model = load(test::fixture_path("gemma2.gguf"), accelerator);
    const auto tokens = some_tokens(model, 6);
    const auto vocab = static_cast<std::size_t>(model.config().vocab_size);
    const auto n_embd = static_cast<std::size_t>(model.config().n_embd);
    KvCache a(model.config(), 8), b(model.config(), 8);
    const auto expected = test::logits_of(model, tokens, a, 3);
    std::vector<float> hidden(3 * n_embd), logits(3 * vocab);
    REQUIRE(model.hidden_states(tokens, b, {hidden.data(), 3, n_embd}));
    REQUIRE(model.project({hidden.data(), 3, n_embd}, {logits.data(), 3, vocab}));
    REQUIRE(distance(logits, expected) < 1e-3);
  }
}

TEST_CASE("the embedded model quantized on the device is the CPU's file") {
  const auto device = test::device();
  if (!device) return;
  const test::TempDir folder;
  const auto source = gguf::File::open(embedded());
  REQUIRE(source);
  const auto recipe = find_recipe("Q3_K_M");
  REQUIRE(recipe);
  QuantizeModelOptions options{.effort = Effort::kFast};
  REQUIRE(quantize_model(*source, folder / "cpu.gguf", *recipe, options));
  options.quantizer = [&](TensorType type, Span2d<const float> in, std::span<std::byte> out,
                          const QuantizeOptions& how) {
    return cuda::quantize(*device, type, in, out, how);
  };
  REQUIRE(quantize_model(*source, folder / "device.gguf", *recipe, options));
  const bool same =
      test::read_bytes(folder / "device.gguf") == test::read_bytes(folder / "cpu.gguf");
  REQUIRE(same);
}

TEST_CASE("the embedded model, quantized, answers as it does with float activations on the CPU") {
  const auto device = test::device();
  if (!device) return;
  const test::TempDir folder;
  for (const char* recipe : {"Q4_K_M", "Q2_K", "Q8_0"}) {
    const auto path = folder / "quantized.gguf";
    test::quantize(embedded(), path, recipe);
    Transformer reference = load(path, nullptr);
    Transformer rounded = load(path, nullptr, ActivationPrecision::kInt8);
    Transformer on_device = load(path, device->accelerator());
    const auto tokens = some_tokens(reference, 18);
    const auto logits = [&](Transformer& model) {
      KvCache cache(model.config(), 32);
      auto all = test::logits_of(model, tokens, cache, 18);
      const Token next[] = {3};
      const auto one = test::logits_of(model, next, cache, 1);
      all.insert(all.end(), one.begin(), one.end());
      return all;
    };
    const auto expected = logits(reference);
    const double found = distance(logits(on_device), expected);
    const double int8 = distance(logits(rounded), expected);
    INFO(recipe << ": device " << found << ", CPU with int8 activations " << int8);
    REQUIRE(found < 5e-3);
    REQUIRE(found < int8);
  }
}

TEST_CASE("what a device cannot do is an error that says so, and leaves it usable") {
  const auto device = test::device();
  if (!device) return;
  Transformer model = load(test::fixture_path("llama3.gguf"), device->accelerator());
  Transformer on_cpu = load(test::fixture_path("llama3.gguf"), nullptr);
  const auto tokens = some_tokens(model, 4);
  const auto vocab = static_cast<std::size_t>(model.config().vocab_size);
  std::vector<float> logits(vocab);
  const Span2d<float> out(logits.data(), 1, vocab);

  KvCache f32(model.config(), 8, KvType::kF32);
  const auto unsupported = model.forward(tokens, f32, out);
  REQUIRE(!unsupported);
  REQUIRE(unsupported.error().code == ErrorCode::kUnsupported);

  KvCache of_cpu(model.config(), 8), of_device(model.config(), 8);
  REQUIRE(on_cpu.forward(tokens, of_cpu, out));
  REQUIRE(model.forward(tokens, of_device, out));
  for (const auto& [transformer, cache] : {std::pair(&model, &of_cpu), {&on_cpu, &of_device}}) {
    const auto elsewhere = transformer->forward(std::span(tokens).first(1), *cache, out);
    REQUIRE(!elsewhere);
    REQUIRE(elsewhere.error().code == ErrorCode::kInvalidArgument);
    REQUIRE(cache->size() == 4);
  }
  REQUIRE(model.forward(std::span(tokens).first(2), of_device, out));
  REQUIRE(of_device.size() == 6);
}
