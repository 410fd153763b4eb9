#pragma once
// Regular expressions for extraction rules, with Python's meaning of \b and \s in Unicode texts.

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace kquant {

class Pattern {
 public:
  /// Precondition: a valid expression of PCRE2.
  explicit Pattern(const char* expression);
  ~Pattern();
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  /// The first group of the first match.
  std::optional<std::string> first_group(std::string_view text) const;
  /// The whole of the last match.
  std::optional<std::string> last_match(std::string_view text) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kquant
