// Any bytes as a model that is run for a few tokens.

#include <vector>

#include "fuzz/fuzz.hpp"
#include "kquant/model/transformer.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kquant;
  auto file = gguf::File::parse(fuzz::as_bytes(data, size), "fuzz");
  if (!file) return 0;
  auto model = Transformer::load(std::move(*file));
  if (!model) {
    fuzz::check(model.error());
    return 0;
  }
  const auto vocab_size = static_cast<std::size_t>(model->config().vocab_size);
  KvCache cache(model->config(), 8);
  std::vector<float> logits(vocab_size);
  const std::vector<Token> tokens = {0, static_cast<Token>(vocab_size) - 1, 0};
  const auto done = model->forward(tokens, cache, {logits.data(), 1, logits.size()});
  if (!done) fuzz::check(done.error());
  return 0;
}
