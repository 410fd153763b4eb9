// 03: load a GGUF model and let it continue a prompt, greedily.
//
//     03_generate MODEL.gguf "The capital of France is"

#include <fmt/format.h>

#include <vector>

#include "kquant/model/sampler.hpp"
#include "kquant/model/transformer.hpp"

namespace {

kquant::Result<void> generate(const char* path, const char* prompt, int n_tokens) {
  using namespace kquant;
  auto model = Transformer::load(path);
  if (!model) return fail(model.error());
  auto tokens = model->tokenizer().encode(prompt);
  if (!tokens) return fail(tokens.error());

  KvCache cache(model->config(), static_cast<int>(tokens->size()) + n_tokens);
  std::vector<float> logits(static_cast<std::size_t>(model->config().vocab_size));
  Sampler greedy({.temperature = 0});
  std::vector<Token> next = *tokens;
  fmt::print("{}", prompt);
  for (int i = 0; i < n_tokens; ++i) {
    if (auto done = model->forward(next, cache, {logits.data(), 1, logits.size()}); !done)
      return done;
    next = {greedy.sample(logits)};
    if (model->tokenizer().ends_generation(next[0])) break;
    fmt::print("{}", model->tokenizer().piece(next[0]));
  }
  fmt::print("\n");
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: 03_generate MODEL.gguf PROMPT\n");
    return 2;
  }
  const auto done = generate(argv[1], argv[2], 32);
  if (!done) fmt::print(stderr, "{}\n", done.error().message);
  return done ? 0 : 1;
}
