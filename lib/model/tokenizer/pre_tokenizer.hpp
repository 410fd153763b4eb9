#pragma once
// Splits a text into the words inside which byte-level BPE merges.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kquant/base/error.hpp"
#include "model/tokenizer/pre_types.hpp"

// PCRE2's types, whose header needs a macro defined first.
struct pcre2_real_code_8;

namespace kquant::tokenizer {

class PreTokenizer {
 public:
  /// `name`: a tokenizer.ggml.pre. Errors: kUnsupported, naming those that are known.
  static Result<PreTokenizer> create(std::string_view name);

  /// The words of `text`, in order; joined they are `text`. Bytes that are no UTF-8 count as
  /// characters that are neither letter, digit, punctuation, symbol nor space. Time: linear.
  Result<std::vector<std::string_view>> split(std::string_view text) const;

  const PreType& type() const { return *type_; }

 private:
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  using Regex = std::unique_ptr<pcre2_real_code_8, FreeCode>;
  static Result<Regex> compile(std::string_view pattern);

  const PreType* type_ = nullptr;
  std::vector<Regex> regexes_;
};

}  // namespace kquant::tokenizer
