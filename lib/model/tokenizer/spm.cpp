// SentencePiece's BPE ("llama" models): spaces become U+2581, and of all adjacent pairs whose
// joined text is a token the one with the highest score merges first.
// Kudo & Richardson 2018, "SentencePiece"; Sennrich et al. 2016.

#include <algorithm>
#include <array>
#include <bit>

#include "model/tokenizer/merger.hpp"
#include "model/tokenizer/model.hpp"
#include "model/tokenizer/utf8.hpp"

namespace kquant::tokenizer {

namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

/// Floats in descending order as unsigned integers in ascending order.
std::uint32_t priority_of(float score) {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0F);  // -0 becomes +0
  return bits >> 31 ? bits : ~(bits | 0x80000000U);
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0;;) {
    const std::size_t found = text.find(from, at);
    out += text.substr(at, found - at);
    if (found == std::string_view::npos) return out;
    out += to;
    at = found + from.size();
  }
}

class SentencePiece final : public Model {
 public:
  SentencePiece(const Vocabulary& vocabulary, bool adds_space)
      : vocabulary_(vocabulary), adds_space_(adds_space) {
    byte_tokens_.fill(kNoToken);
    for (std::size_t i = 0; i < vocabulary.size(); ++i) {
      const auto token = static_cast<Token>(i);
      const std::string_view text = vocabulary.text(token);
      const int byte = byte_of_hex_text(text);
      if (byte >= 0) byte_tokens_[static_cast<std::size_t>(byte)] = token;
      if (vocabulary.kind(token) == TokenKind::Unknown && unknown_ == kNoToken) unknown_ = token;
      if (merges(token)) note_inner_spaces(text);
    }
  }

  Result<void> encode(std::string_view text, bool first,
                      std::vector<Token>& tokens) const override {
    std::string escaped = adds_space_ && first ? std::string(kSpace) : std::string();
    escaped += replace_all(text, " ", kSpace);
    Merger merger;
    std::string_view rest = escaped;
    while (!rest.empty()) {
      const std::size_t length = unbroken_length(rest);
      if (auto done = encode_unbroken(rest.substr(0, length), merger, tokens); !done) return done;
      rest.remove_prefix(length);
    }
    return {};
  }

  std::string bytes_of(Token token) const override {
    const std::string_view text = vocabulary_.text(token);
    if (vocabulary_.kind(token) == TokenKind::Byte)
      if (const int byte = byte_of_hex_text(text); byte >= 0)
        return std::string(1, static_cast<char>(byte));
    return replace_all(text, kSpace, " ");
  }

  bool adds_space() const override { return adds_space_; }
  bool adds_bos_by_default() const override { return true; }
  Token default_bos() const override { return 1; }
  Token default_eos() const override { return 2; }

 private:
  /// Plain text never turns into a control or byte token by merging characters.
  bool merges(Token token) const {
    return !vocabulary_.is_control(token) && vocabulary_.kind(token) != TokenKind::Byte;
  }

  // Most vocabularies have no token with a space behind something else ("a▁"): then nothing merges
  // across that place, and the text falls into words there, which keeps the queue short. Where
  // there are such tokens, the last byte before the space tells.
  void note_inner_spaces(std::string_view text) {
    for (std::size_t at = text.find(kSpace, 1); at != std::string_view::npos;
         at = text.find(kSpace, at + 1))
      if (!text.substr(0, at).ends_with(kSpace))
        joins_space_[static_cast<unsigned char>(text[at - 1])] = true;
  }

  std::size_t unbroken_length(std::string_view text) const {
    for (std::size_t at = text.find(kSpace, 1); at != std::string_view::npos;
         at = text.find(kSpace, at + 1))
      if (!text.substr(0, at).ends_with(kSpace) &&
          !joins_space_[static_cast<unsigned char>(text[at - 1])])
        return at;
    return text.size();
  }

  Result<void> encode_unbroken(std::string_view text, Merger& merger,
                               std::vector<Token>& tokens) const {
    merger.clear();
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = std::max<std::size_t>(utf8_length(text.substr(at)), 1);
      merger.add({static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(length), kNoToken});
      at += length;
    }
    merger.merge([&](const Symbol& left, const Symbol& right) -> Merge {
      const Token token = vocabulary_.find(text.substr(left.begin, left.size + right.size));
      if (token == kNoToken || !merges(token)) return {};
      return {priority_of(vocabulary_.score(token)), token};
    });

    Result<void> result;
    merger.for_each([&](const Symbol& symbol) {
      if (!result) return;
      if (symbol.token != kNoToken) {
        tokens.push_back(symbol.token);
      } else {
        result = encode_character(text.substr(symbol.begin, symbol.size), tokens);
      }
    });
    return result;
  }

  Result<void> encode_character(std::string_view character, std::vector<Token>& tokens) const {
    const Token whole = vocabulary_.find(character);
    if (whole != kNoToken && merges(whole)) {
      tokens.push_back(whole);
      return {};
    }
    for (const char byte : character) {
      const auto value = static_cast<unsigned char>(byte);
      const Token token = byte_tokens_[value] != kNoToken ? byte_tokens_[value] : unknown_;
      if (token == kNoToken) return inexpressible(value);
      tokens.push_back(token);
    }
    return {};
  }

  const Vocabulary& vocabulary_;
  bool adds_space_;
  Token unknown_ = kNoToken;
  std::array<Token, 256> byte_tokens_{};
  std::array<bool, 256> joins_space_{};
};

}  // namespace

Result<std::unique_ptr<Model>> make_sentence_piece(const gguf::File& file,
                                                   const Vocabulary& vocabulary) {
  constexpr std::string_view kAddSpaceKey = "tokenizer.ggml.add_space_prefix";
  bool adds_space = true;
  if (file.find(kAddSpaceKey)) {
    const auto value = file.get_bool(kAddSpaceKey);
    if (!value) return fail(value.error());
    adds_space = *value;
  }
  return std::make_unique<SentencePiece>(vocabulary, adds_space);
}

}  // namespace kquant::tokenizer
