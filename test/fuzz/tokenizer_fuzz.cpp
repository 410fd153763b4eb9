// A GGUF file with a vocabulary, followed by a text: whatever follows the last byte of a file
// without tensors is not part of it. So one input changes both.

#include <algorithm>

#include "fuzz/fuzz.hpp"
#include "kquant/model/tokenizer.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kquant;
  const auto file = gguf::File::parse(fuzz::as_bytes(data, size), "fuzz");
  if (!file) return 0;
  const auto tokenizer = Tokenizer::load(*file);
  if (!tokenizer) {
    fuzz::check(tokenizer.error());
    return 0;
  }
  const std::size_t length = std::min<std::size_t>(size, 512);
  const std::string_view text(reinterpret_cast<const char*>(data) + size - length, length);
  for (const bool parse_special : {false, true}) {
    const auto tokens =
        tokenizer->encode(text, {.add_special = true, .parse_special = parse_special});
    if (!tokens) {
      fuzz::check(tokens.error());
      continue;
    }
    for (const Token token : *tokens) {
      fuzz::require(token >= 0 && static_cast<std::size_t>(token) < tokenizer->size(),
                    "tokens are of the vocabulary");
      static_cast<void>(tokenizer->piece(token));
    }
    static_cast<void>(tokenizer->decode(*tokens));
    static_cast<void>(tokenizer->decode(*tokens, true));
  }
  return 0;
}
