#pragma once
// The token table of a GGUF file: texts, kinds and scores by id, and ids by text.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kquant/gguf.hpp"
#include "kquant/model/tokenizer.hpp"

namespace kquant::tokenizer {

inline constexpr Token kNoToken = -1;

/// GGUF's tokenizer.ggml.token_type.
enum class TokenKind : std::uint8_t {
  Undefined = 0,
  Normal = 1,
  Unknown = 2,
  Control = 3,
  UserDefined = 4,
  Unused = 5,
  Byte = 6,
};

class Vocabulary {
 public:
  /// Reads tokenizer.ggml.tokens, .token_type and .scores (the last two may be missing: all
  /// normal, all zero). Errors: kNotFound, kBadFile (types, lengths, NaN scores, no tokens).
  static Result<Vocabulary> load(const gguf::File& file);

  std::size_t size() const { return kinds_.size(); }
  bool contains(std::int64_t token) const {
    return token >= 0 && static_cast<std::uint64_t>(token) < size();
  }
  // All below: `token` must be contained.
  std::string_view text(Token token) const {
    const auto i = static_cast<std::size_t>(token);
    return std::string_view(texts_).substr(ends_[i], ends_[i + 1] - ends_[i]);
  }
  TokenKind kind(Token token) const { return kinds_[static_cast<std::size_t>(token)]; }
  void set_kind(Token token, TokenKind kind) { kinds_[static_cast<std::size_t>(token)] = kind; }
  float score(Token token) const {
    return scores_.empty() ? 0.0F : scores_[static_cast<std::size_t>(token)];
  }
  /// Never written in a text but to steer the model: control and unknown tokens.
  bool is_control(Token token) const {
    return kind(token) == TokenKind::Control || kind(token) == TokenKind::Unknown;
  }

  /// The lowest id with that text; kNoToken where there is none.
  Token find(std::string_view text) const;
  std::size_t longest_text() const { return longest_text_; }

 private:
  void build_index();

  std::string texts_;              // of all tokens, one after the other
  std::vector<std::size_t> ends_;  // token i is texts_[ends_[i], ends_[i + 1])
  std::vector<TokenKind> kinds_;
  std::vector<float> scores_;
  std::size_t longest_text_ = 0;

  // Open addressing, at most half full; a slot keeps half of the hash, so that a lookup of
  // something absent seldom touches a text.
  struct Slot {
    std::uint32_t tag = 0;
    Token token = kNoToken;
  };
  std::vector<Slot> index_;
};

/// The byte that a token such as "<0x0A>" stands for; -1 for any other text.
int byte_of_hex_text(std::string_view text);

/// The error of a byte that a vocabulary cannot express.
tl::unexpected<Error> inexpressible(unsigned char byte);

}  // namespace kquant::tokenizer
