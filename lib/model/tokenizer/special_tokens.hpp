#pragma once
// Tokens that are found as a whole in a text, before anything is merged.

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "model/tokenizer/vocabulary.hpp"

namespace kquant::tokenizer {

/// Corrects the kinds of well-known tokens that converters got wrong (they are told by their
/// texts), and returns those that end generation by convention: "<|im_end|>", "<end_of_turn>", ...
std::vector<Token> settle_well_known(Vocabulary& vocabulary);

class SpecialTokens {
 public:
  explicit SpecialTokens(const Vocabulary& vocabulary);

  struct Match {
    std::size_t begin = 0, end = 0;
    Token token = kNoToken;
  };
  /// The first special token of `text` at or behind `from`; of several that start there, the
  /// longest. User-defined tokens always count, control and unknown ones only `with_control`.
  std::optional<Match> find(std::string_view text, std::size_t from, bool with_control) const;

 private:
  // A trie over the bytes of the special tokens. A node's children are a list; the root's, where
  // every search begins, a table.
  struct Node {
    char byte = 0;
    Token token = kNoToken;
    std::int32_t child = -1, sibling = -1;
  };
  void insert(std::string_view text, Token token);
  std::int32_t child_of(std::int32_t node, char byte) const;

  const Vocabulary& vocabulary_;
  std::vector<Node> nodes_;
  std::array<std::int32_t, 256> roots_{};
};

}  // namespace kquant::tokenizer
