#pragma once
// Text to token ids and back, as the vocabulary in a GGUF file says.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/gguf.hpp"

namespace kquant {

using Token = std::int32_t;

struct EncodeOptions {
  bool add_special = true;     ///< BOS / EOS as the vocabulary asks for
  bool parse_special = false;  ///< "<|eot|>" in the text becomes that token (else it is plain text)
};

/// SentencePiece-style ("llama": scores) and byte-level BPE ("gpt2": merges, pre-tokenizer regex).
/// Immutable once loaded; all members may be called from several threads.
class Tokenizer {
 public:
  /// Errors: kBadFile (missing or malformed vocabulary), kUnsupported (tokenizer model or `pre`
  /// type).
  static Result<Tokenizer> load(const gguf::File& file);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Any bytes are accepted; invalid UTF-8 is encoded by byte fallback where the vocabulary has
  /// one. Time: O(n log n) at most. Errors: kUnsupported where a byte cannot be expressed.
  Result<std::vector<Token>> encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// The text of tokens; control tokens are left out unless `with_special`.
  std::string decode(std::span<const Token> tokens, bool with_special = false) const;

  /// The bytes a token adds to a text in its middle (for streaming); empty for control tokens
  /// unless `with_special`.
  std::string piece(Token token, bool with_special = false) const;
  /// As stored in the vocabulary: "▁the", "Ġthe".
  std::string_view stored_text(Token token) const;

  std::size_t size() const;
  std::optional<Token> bos() const;
  std::optional<Token> eos() const;
  bool adds_bos() const;
  bool adds_eos() const;
  /// EOS, end-of-turn and the like: where generation stops.
  bool ends_generation(Token token) const;
  std::optional<Token> find(std::string_view stored_text) const;
  /// The GGUF's tokenizer.chat_template; empty where there is none.
  std::string_view chat_template() const;

  struct State;

 private:
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kquant
