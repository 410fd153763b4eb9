#include "eval/pattern.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cassert>

namespace kquant {

struct Pattern::State {
  pcre2_code* code = nullptr;
  pcre2_match_data* match = nullptr;
  ~State() {
    pcre2_match_data_free(match);
    pcre2_code_free(code);
  }

  /// From `offset` on; the match's bounds, and group 1's where there is one.
  bool find(std::string_view text, std::size_t offset) {
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), offset, 0,
                       match, nullptr) > 0;
  }
  std::string group(std::string_view text, std::size_t i) const {
    const PCRE2_SIZE* const bounds = pcre2_get_ovector_pointer(match);
    return std::string(text.substr(bounds[2 * i], bounds[2 * i + 1] - bounds[2 * i]));
  }
};

Pattern::Pattern(const char* expression) : state_(std::make_unique<State>()) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  state_->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression), PCRE2_ZERO_TERMINATED,
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &error, &offset, nullptr);
  assert(state_->code != nullptr);
  pcre2_jit_compile(state_->code, PCRE2_JIT_COMPLETE);
  state_->match = pcre2_match_data_create_from_pattern(state_->code, nullptr);
}

Pattern::~Pattern() = default;

std::optional<std::string> Pattern::first_group(std::string_view text) const {
  if (!state_->find(text, 0)) return std::nullopt;
  return state_->group(text, 1);
}

std::optional<std::string> Pattern::last_match(std::string_view text) const {
  std::optional<std::string> last;
  for (std::size_t offset = 0; state_->find(text, offset);) {
    last = state_->group(text, 0);
    const std::size_t end = pcre2_get_ovector_pointer(state_->match)[1];
    if (end == offset) break;  // an empty match would be found for ever
    offset = end;
  }
  return last;
}

}  // namespace kquant
