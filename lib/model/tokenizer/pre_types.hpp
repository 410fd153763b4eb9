#pragma once
// Which regular expressions each tokenizer.ggml.pre asks for, as data.

#include <span>
#include <string_view>

namespace kquant::tokenizer {

struct PreType {
  std::string_view names;  ///< of tokenizer.ggml.pre, separated by spaces
  /// Applied one after the other, each to the pieces that the one before left: every match and
  /// every gap between matches is a piece.
  std::span<const std::string_view> patterns;
  bool whole_words = false;  ///< a word that is a token needs no merges ("ignore_merges")
  bool adds_bos = false;     ///< where the file does not say
};

std::span<const PreType> pre_types();

/// nullptr where there is none of that name.
const PreType* find_pre_type(std::string_view name);

}  // namespace kquant::tokenizer
