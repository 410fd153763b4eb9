#include "eval/asker.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace kquant {

Asker::Asker(const Benchmark& benchmark, const Tokenizer& tokenizer, std::size_t window, Mode mode,
             const EvaluationOptions& options)
    : benchmark_(&benchmark), tokenizer_(&tokenizer), mode_(mode), window_(window) {
  const auto usual = static_cast<std::size_t>(benchmark.max_tokens(mode));
  if (benchmark.limit_includes_prompt()) window_ = std::min(window_, usual);
  max_tokens_ = options.max_tokens > 0 ? options.max_tokens : usual;
  reserve_ = mode == Mode::kLoglik ? 1 : std::min(max_tokens_, window_ / 2);
}

Result<Asker> Asker::create(const Benchmark& benchmark, const Tokenizer& tokenizer,
                            std::size_t window, Mode mode, const EvaluationOptions& options) {
  Asker asker(benchmark, tokenizer, window, mode, options);
  if (!options.chat) return asker;
  auto family = find_chat_template(tokenizer.chat_template());
  if (!family) return fail(family.error());
  for (const std::string_view token : special_tokens(*family))
    if (!tokenizer.find(token))
      return fail(ErrorCode::kUnsupported,
                  fmt::format("the model's chat template is {}, but its vocabulary has no token "
                              "'{}': use a plain prompt",
                              name(*family), token));
  asker.family_ = *family;
  return asker;
}

Result<Asked> Asker::ask(std::size_t item) const {
  for (int shots = benchmark_->shots(item, mode_);; --shots) {
    Asked asked{benchmark_->prompt(item, mode_, shots), {}, 0, shots};
    if (family_) {
      std::vector<ChatMessage> messages;
      if (!benchmark_->system().empty())
        messages.push_back({ChatRole::kSystem, std::string(benchmark_->system())});
      messages.push_back({ChatRole::kUser, asked.text});
      auto text = format_chat(*family_, messages);
      if (!text) return fail(text.error());
      asked.text = std::move(*text);
    }
    auto tokens =
        tokenizer_->encode(asked.text, {.add_special = true, .parse_special = family_.has_value()});
    if (!tokens) return fail(tokens.error());
    asked.tokens = std::move(*tokens);
    const std::size_t n = asked.tokens.size();
    if (n > 0 && n + reserve_ <= window_) {
      asked.room = room_after(n);
      return asked;
    }
    if (shots > 0) continue;
    asked.room = n > 0 && n < window_ ? room_after(n) : 0;
    return asked;
  }
}

std::size_t Asker::room_after(std::size_t prompt) const {
  return std::min(max_tokens_, window_ - prompt);
}

}  // namespace kquant
