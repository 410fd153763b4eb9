#pragma once
// What tells a tokenizer model from another: how plain text becomes tokens, and a token its bytes.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/vocabulary.hpp"

namespace kquant::tokenizer {

class Model {
 public:
  virtual ~Model() = default;

  /// Appends the tokens of `text`, in which no special token is looked for. `first`: at the start
  /// of the input or right after a special token. Errors: kUnsupported (a byte that no token can
  /// express).
  virtual Result<void> encode(std::string_view text, bool first,
                              std::vector<Token>& tokens) const = 0;
  /// The bytes a token adds in the middle of a text; `token` is neither control nor unknown.
  virtual std::string bytes_of(Token token) const = 0;
  /// encode() puts a space in front of a `first` text, which decoding takes away again.
  virtual bool adds_space() const { return false; }

  // Where the file does not say:
  virtual bool adds_bos_by_default() const = 0;
  virtual Token default_bos() const = 0;
  virtual Token default_eos() const = 0;
};

/// "llama": SentencePiece's BPE, merging by score. `vocabulary` must outlive the model.
Result<std::unique_ptr<Model>> make_sentence_piece(const gguf::File& file,
                                                   const Vocabulary& vocabulary);
/// "gpt2": byte-level BPE, merging by rank inside the words of a pre-tokenizer.
Result<std::unique_ptr<Model>> make_byte_level_bpe(const gguf::File& file,
                                                   const Vocabulary& vocabulary);

}  // namespace kquant::tokenizer
