#include "model/tokenizer/special_tokens.hpp"

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
  roots_.fill(-1);
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    const auto token = static_cast<Token>(i);
    if (vocabulary.is_control(token) || vocabulary.kind(token) == TokenKind::UserDefined)
      insert(vocabulary.text(token), token);
  }
}

void SpecialTokens::insert(std::string_view text, Token token) {
  std::int32_t node = -1;
  for (const char byte : text) {
    std::int32_t next = child_of(node, byte);
    if (next < 0) {
      next = static_cast<std::int32_t>(nodes_.size());
      std::int32_t& first = node < 0 ? roots_[static_cast<unsigned char>(byte)]
                                     : nodes_[static_cast<std::size_t>(node)].child;
      const std::int32_t sibling = node < 0 ? -1 : first;
      first = next;
      nodes_.push_back({byte, kNoToken, -1, sibling});
    }
    node = next;
  }
  if (node >= 0 && nodes_[static_cast<std::size_t>(node)].token == kNoToken)
    nodes_[static_cast<std::size_t>(node)].token = token;
}

std::int32_t SpecialTokens::child_of(std::int32_t node, char byte) const {
  if (node < 0) return roots_[static_cast<unsigned char>(byte)];
  std::int32_t child = nodes_[static_cast<std::size_t>(node)].child;
  while (child >= 0 && nodes_[static_cast<std::size_t>(child)].byte != byte)
    child = nodes_[static_cast<std::size_t>(child)].sibling;
  return child;
}

std::optional<SpecialTokens::Match> SpecialTokens::find(std::string_view text, std::size_t from,
                                                        bool with_control) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    std::optional<Match> longest;
    std::int32_t node = -1;
    for (std::size_t at = begin; at < text.size(); ++at) {
      node = child_of(node, text[at]);
      if (node < 0) break;
      const Token token = nodes_[static_cast<std::size_t>(node)].token;
      if (token != kNoToken && (with_control || !vocabulary_.is_control(token)))
        longest = Match{begin, at + 1, token};
    }
    if (longest) return longest;
  }
  return std::nullopt;
}

}  // namespace kquant::tokenizer
