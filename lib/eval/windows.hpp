#pragma once
// A text as windows of tokens that follow one another, the way llama.cpp's tools cut it: tokenized
// once as a whole; where the vocabulary asks for BOS, it takes the place of each window's first
// token.

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/model/tokenizer.hpp"

namespace kquant {

class Windows {
 public:
  /// At most `chunks` windows of `context` tokens (0: all). Errors: kInvalidArgument.
  static Result<Windows> cut(const Tokenizer& tokenizer, std::string_view text, int context,
                             int chunks);

  std::size_t count() const { return count_; }
  std::size_t context() const { return context_; }
  std::vector<Token> window(std::size_t i) const;

 private:
  std::vector<Token> tokens_;
  std::optional<Token> first_;
  std::size_t context_ = 0, count_ = 0;
};

}  // namespace kquant
