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
  const Vocabulary& vocabulary_;
  // By first byte: the lengths that special tokens have, the longest first.
  std::array<std::vector<std::size_t>, 256> lengths_;
};

}  // namespace kquant::tokenizer
