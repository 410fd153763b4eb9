#include "eval/windows.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace kquant {

Result<Windows> Windows::cut(const Tokenizer& tokenizer, std::string_view text, int context,
                             int chunks) {
  constexpr int kLeast = 4, kMost = 1 << 24;
  if (context < kLeast || context > kMost)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("context: found {}, expected {} to {} tokens", context, kLeast, kMost));
  if (chunks < 0)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("chunks: found {}, expected 0 or more", chunks));
  auto tokens = tokenizer.encode(text);
  if (!tokens) return fail(tokens.error());

  Windows windows;
  windows.context_ = static_cast<std::size_t>(context);
  windows.count_ = tokens->size() / windows.context_;
  if (windows.count_ == 0)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("the text has {} tokens, expected at least one window of {}",
                            tokens->size(), context));
  if (chunks > 0) windows.count_ = std::min(windows.count_, static_cast<std::size_t>(chunks));
  windows.tokens_ = std::move(*tokens);
  if (tokenizer.adds_bos()) windows.first_ = tokenizer.bos();
  return windows;
}

std::vector<Token> Windows::window(std::size_t i) const {
  const auto begin = tokens_.begin() + static_cast<std::ptrdiff_t>(i * context_);
  std::vector<Token> tokens(begin, begin + static_cast<std::ptrdiff_t>(context_));
  if (first_) tokens.front() = *first_;
  return tokens;
}

}  // namespace kquant
