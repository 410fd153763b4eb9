#include "model/tokenizer/pre_tokenizer.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <cstdint>

#include "model/tokenizer/utf8.hpp"

namespace kquant::tokenizer {

namespace {

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

/// PCRE2's own \s also takes U+180E, which is no white space since Unicode 6.3: spell \s and \S out
/// as the property White_Space.
std::string spell_white_space(std::string_view pattern) {
  constexpr std::string_view kWhiteSpace = R"(\t-\r\x{85}\p{Z})";
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\') {
      const char escaped = pattern[++i];
      if (escaped == 's' && in_class) {
        out += kWhiteSpace;
      } else if (escaped == 's' || escaped == 'S') {
        out += fmt::format("[{}{}]", escaped == 'S' ? "^" : "", kWhiteSpace);
      } else {
        out += {c, escaped};
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

/// A copy of a text that is not UTF-8 which is, byte for byte: U+001A for each byte out of place.
std::string as_utf8(std::string_view text) {
  std::string out(text);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text.substr(at));
    if (length == 0) out[at] = '\x1A';
    at += length == 0 ? 1 : length;
  }
  return out;
}

bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text.substr(at));
    if (length == 0) return false;
    at += length;
  }
  return true;
}

/// What one caller needs to match: a compiled pattern alone is shared between threads.
class Matcher {
 public:
  Matcher()
      : data_(pcre2_match_data_create(1, nullptr)), context_(pcre2_match_context_create(nullptr)) {
    if (data_ == nullptr || context_ == nullptr) throw std::bad_alloc();
    // The patterns need time linear in the text; what is to be bounded is memory.
    pcre2_set_match_limit(context_, UINT32_MAX);
    pcre2_set_heap_limit(context_, 64 * 1024);  // KiB
  }
  ~Matcher() {
    pcre2_match_data_free(data_);
    pcre2_match_context_free(context_);
  }
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;

  /// Splits `piece` (UTF-8) into matches and gaps.
  Result<void> split(const pcre2_code* regex, std::string_view piece,
                     std::vector<std::string_view>& out) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(piece.data());
    std::size_t at = 0;
    while (at < piece.size()) {
      int found =
          pcre2_match(regex, subject, piece.size(), at, PCRE2_NO_UTF_CHECK, data_, context_);
      if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found = pcre2_match(regex, subject, piece.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                            data_, context_);
      if (found == PCRE2_ERROR_NOMATCH) break;
      if (found < 0)
        return fail(ErrorCode::kUnsupported, "the pre-tokenizer failed: " + message_of(found));
      const PCRE2_SIZE* const bounds = pcre2_get_ovector_pointer(data_);
      if (bounds[1] <= at) break;  // no pattern matches nothing
      if (bounds[0] > at) out.push_back(piece.substr(at, bounds[0] - at));
      out.push_back(piece.substr(bounds[0], bounds[1] - bounds[0]));
      at = bounds[1];
    }
    if (at < piece.size()) out.push_back(piece.substr(at));
    return {};
  }

 private:
  pcre2_match_data* data_;
  pcre2_match_context* context_;
};

}  // namespace

void PreTokenizer::FreeCode::operator()(pcre2_real_code_8* code) const {
  pcre2_code_free(code);
}

Result<PreTokenizer::Regex> PreTokenizer::compile(std::string_view pattern) {
  const std::string spelled = spell_white_space(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  Regex regex(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(spelled.data()), spelled.size(),
                            PCRE2_UTF | PCRE2_NO_AUTO_CAPTURE, &error, &offset, nullptr));
  if (regex == nullptr)
    return fail(ErrorCode::kUnsupported, fmt::format("pre-tokenizer pattern {}: {} at {}", spelled,
                                                     message_of(error), offset));
  pcre2_jit_compile(regex.get(), PCRE2_JIT_COMPLETE);  // without a JIT it is slower, no more
  return regex;
}

Result<PreTokenizer> PreTokenizer::create(std::string_view name) {
  PreTokenizer result;
  result.type_ = find_pre_type(name);
  if (result.type_ == nullptr) {
    std::string known;
    for (const PreType& type : pre_types()) known += fmt::format(" {}", type.names);
    return fail(ErrorCode::kUnsupported,
                fmt::format("pre-tokenizer '{}' is not known; known are:{}", name, known));
  }
  for (const std::string_view pattern : result.type_->patterns) {
    auto regex = compile(pattern);
    if (!regex) return fail(regex.error());
    result.regexes_.push_back(std::move(*regex));
  }
  return result;
}

Result<std::vector<std::string_view>> PreTokenizer::split(std::string_view text) const {
  const std::string repaired = is_utf8(text) ? std::string() : as_utf8(text);
  const std::string_view subject = repaired.empty() ? text : repaired;

  Matcher matcher;
  std::vector<std::string_view> pieces, next;
  if (!subject.empty()) pieces.push_back(subject);
  for (const Regex& regex : regexes_) {
    next.clear();
    for (const std::string_view piece : pieces)
      if (auto done = matcher.split(regex.get(), piece, next); !done) return fail(done.error());
    pieces.swap(next);
  }
  for (std::string_view& piece : pieces)
    piece = text.substr(static_cast<std::size_t>(piece.data() - subject.data()), piece.size());
  return pieces;
}

}  // namespace kquant::tokenizer
