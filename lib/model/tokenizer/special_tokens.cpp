#include "model/tokenizer/special_tokens.hpp"

#include <algorithm>
#include <functional>

namespace kquant::tokenizer {

namespace {

// Control tokens whatever the file says of their kind.
constexpr std::string_view kEndOfGeneration[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    // Fill-in-the-middle: what would follow is another file.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<|file_sep|>",
};
constexpr std::string_view kFillInTheMiddle[] = {
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "▁<PRE>",
    "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>",  "▁<SUF>",
    "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>",   "▁<MID>",
};
// The channel markup of OpenAI's harmony format is part of what a reader sees.
constexpr std::string_view kShown[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};

}  // namespace

std::vector<Token> settle_well_known(Vocabulary& vocabulary) {
  const auto has = [&](std::string_view text) { return vocabulary.find(text) != kNoToken; };
  // Where a format has "<|return|>" and "<|call|>", "<|end|>" only ends one message of several.
  const bool end_goes_on =
      (has("<|return|>") && has("<|call|>")) || (has("<|flush|>") && has("<|calls|>"));
  std::vector<Token> ends;
  for (const std::string_view text : kEndOfGeneration) {
    const Token token = vocabulary.find(text);
    if (token == kNoToken) continue;
    if (text == "<|end|>" && end_goes_on) {
      vocabulary.set_kind(token, TokenKind::UserDefined);
    } else {
      vocabulary.set_kind(token, TokenKind::Control);
      ends.push_back(token);
    }
  }
  for (const std::string_view text : kFillInTheMiddle)
    if (const Token token = vocabulary.find(text); token != kNoToken)
      vocabulary.set_kind(token, TokenKind::Control);
  for (const std::string_view text : kShown)
    if (const Token token = vocabulary.find(text); token != kNoToken)
      vocabulary.set_kind(token, TokenKind::UserDefined);
  return ends;
}

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary) : vocabulary_(vocabulary) {
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    const auto token = static_cast<Token>(i);
    const std::string_view text = vocabulary.text(token);
    if (text.empty()) continue;
    if (!vocabulary.is_control(token) && vocabulary.kind(token) != TokenKind::UserDefined) continue;
    auto& lengths = lengths_[static_cast<unsigned char>(text[0])];
    const auto at = std::lower_bound(lengths.begin(), lengths.end(), text.size(), std::greater<>());
    if (at == lengths.end() || *at != text.size()) lengths.insert(at, text.size());
  }
}

std::optional<SpecialTokens::Match> SpecialTokens::find(std::string_view text, std::size_t from,
                                                        bool with_control) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    for (const std::size_t length : lengths_[static_cast<unsigned char>(text[begin])]) {
      if (length > text.size() - begin) continue;
      const Token token = vocabulary_.find(text.substr(begin, length));
      if (token == kNoToken) continue;
      if (vocabulary_.kind(token) == TokenKind::UserDefined ||
          (with_control && vocabulary_.is_control(token)))
        return Match{begin, begin + length, token};
    }
  }
  return std::nullopt;
}

}  // namespace kquant::tokenizer
