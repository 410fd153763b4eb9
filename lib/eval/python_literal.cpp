#include "eval/python_literal.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace kquant {
namespace {

enum class Kind { kList, kTuple, kSet, kDict };  ///< a dict alternates keys and values

struct Value;
struct Container {
  Kind kind;
  std::vector<Value> elements;
};
struct None {};
/// True and False are the integers 1 and 0, as in Python.
struct Value {
  std::variant<None, std::int64_t, double, std::string, Container> held;
};

constexpr std::int64_t kExactInDouble = std::int64_t{1} << 53;
constexpr std::size_t kMostUnordered = 2000;  // sets and dicts are compared element by element
constexpr int kDeepest = 40;

bool equal(const Value& a, const Value& b);

bool contains(std::span<const Value> values, const Value& value, std::size_t stride = 1) {
  for (std::size_t i = 0; i < values.size(); i += stride)
    if (equal(values[i], value)) return true;
  return false;
}

bool equal_containers(const Container& a, const Container& b) {
  if (a.kind != b.kind || a.elements.size() != b.elements.size()) return false;
  const std::span<const Value> x = a.elements, y = b.elements;
  switch (a.kind) {
    case Kind::kList:
    case Kind::kTuple:
      return std::ranges::equal(x, y, equal);
    case Kind::kSet:
      return std::ranges::all_of(x, [&](const Value& v) { return contains(y, v); });
    case Kind::kDict:
      for (std::size_t i = 0; i < x.size(); i += 2) {
        std::size_t j = 0;
        while (j < y.size() && !equal(x[i], y[j])) j += 2;
        if (j == y.size() || !equal(x[i + 1], y[j + 1])) return false;
      }
      return true;
  }
  return false;
}

bool equal(const Value& a, const Value& b) {
  const auto* integer = std::get_if<std::int64_t>(&a.held);
  const auto* number = std::get_if<double>(&b.held);
  if (integer && number) return static_cast<double>(*integer) == *number;
  if (std::get_if<double>(&a.held) && std::get_if<std::int64_t>(&b.held)) return equal(b, a);
  if (a.held.index() != b.held.index()) return false;
  if (integer) return *integer == std::get<std::int64_t>(b.held);
  if (number) return std::get<double>(a.held) == *number;
  if (const auto* text = std::get_if<std::string>(&a.held))
    return *text == std::get<std::string>(b.held);
  if (const auto* container = std::get_if<Container>(&a.held))
    return equal_containers(*container, std::get<Container>(b.held));
  return true;
}

/// Only these can be elements of a set or keys of a dict.
bool hashable(const Value& value) {
  const auto* container = std::get_if<Container>(&value.held);
  return !container ||
         (container->kind == Kind::kTuple && std::ranges::all_of(container->elements, hashable));
}

void append_utf8(std::string& out, std::uint32_t c) {
  const auto put = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      put(0xe0 | c >> 12);
    } else {
      put(0xf0 | c >> 18);
      put(0x80 | (c >> 12 & 0x3f));
    }
    put(0x80 | (c >> 6 & 0x3f));
  }
  put(0x80 | (c & 0x3f));
}

/// Recursive descent; anything unexpected gives nullopt.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::optional<Value> read_all() {
    skip_space();
    auto value = read(0);
    skip_space();
    return at_ == text_.size() ? value : std::nullopt;
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char c) {
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  bool take_word(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    const std::size_t end = at_ + word.size();
    if (end < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[end])) != 0 ||
                               text_[end] == '_' || static_cast<unsigned char>(text_[end]) >= 0x80))
      return false;
    at_ = end;
    return true;
  }
  /// Within brackets a new line is space as well.
  void skip_space() {
    while (peek() == ' ' || peek() == '\t' || (inside_ > 0 && peek() == '\n')) ++at_;
  }

  std::optional<Value> read(int depth) {
    if (depth > kDeepest) return std::nullopt;
    switch (peek()) {
      case '[':
        return read_sequence(Kind::kList, ']', depth);
      case '(':
        return read_sequence(Kind::kTuple, ')', depth);
      case '{':
        return read_braces(depth);
      case '\'':
      case '"':
        return read_string();
      default:
        break;
    }
    if (take_word("None")) return Value{None{}};
    if (take_word("True")) return Value{std::int64_t{1}};
    if (take_word("False")) return Value{std::int64_t{0}};
    return read_number();
  }

  std::optional<Value> read_sequence(Kind kind, char close, int depth) {
    ++at_;
    ++inside_;
    Container out{kind, {}};
    bool comma = true;
    for (skip_space(); peek() != close; skip_space()) {
      if (!comma) return std::nullopt;
      auto element = read(depth + 1);
      if (!element) return std::nullopt;
      out.elements.push_back(std::move(*element));
      skip_space();
      comma = take(',');
    }
    ++at_;
    --inside_;
    // (x) is x in parentheses.
    if (kind == Kind::kTuple && out.elements.size() == 1 && !comma)
      return std::move(out.elements[0]);
    if (kind == Kind::kTuple && out.elements.empty() && text_[at_ - 2] == ',') return std::nullopt;
    return Value{std::move(out)};
  }

  std::optional<Value> read_braces(int depth) {
    ++at_;
    ++inside_;
    Container out{Kind::kDict, {}};
    bool comma = true;
    for (skip_space(); peek() != '}'; skip_space()) {
      if (!comma) return std::nullopt;
      auto key = read(depth + 1);
      if (!key || !hashable(*key)) return std::nullopt;
      skip_space();
      const bool pair = take(':');
      if (out.elements.empty() && !pair) out.kind = Kind::kSet;
      if (pair != (out.kind == Kind::kDict)) return std::nullopt;
      if (pair) {
        skip_space();
        auto value = read(depth + 1);
        if (!value) return std::nullopt;
        put(out, std::move(*key), std::move(*value));
      } else if (!contains(out.elements, *key)) {
        out.elements.push_back(std::move(*key));
      }
      if (out.elements.size() > kMostUnordered) return std::nullopt;
      skip_space();
      comma = take(',');
    }
    ++at_;
    --inside_;
    return Value{std::move(out)};
  }

  /// Of equal keys the last value counts.
  static void put(Container& dict, Value key, Value value) {
    for (std::size_t i = 0; i < dict.elements.size(); i += 2)
      if (equal(dict.elements[i], key)) {
        dict.elements[i + 1] = std::move(value);
        return;
      }
    dict.elements.push_back(std::move(key));
    dict.elements.push_back(std::move(value));
  }

  std::optional<Value> read_string() {
    const char quote = text_[at_++];
    if (text_.substr(at_).starts_with(std::string(2, quote))) return std::nullopt;  // triple quotes
    std::string out;
    while (true) {
      if (at_ >= text_.size() || peek() == '\n' || peek() == '\r' || peek() == '\0')
        return std::nullopt;
      const char c = text_[at_++];
      if (c == quote) break;
      if (c != '\\')
        out += c;
      else if (!read_escape(out))
        return std::nullopt;
    }
    // 'a' 'b' are one text in Python, and 'a'.upper() is no literal: both fail at the next token.
    return Value{std::move(out)};
  }

  bool read_escape(std::string& out) {
    if (at_ >= text_.size()) return false;
    const char c = text_[at_++];
    switch (c) {
      case '\\':
      case '\'':
      case '"':
        out += c;
        return true;
      case 'n':
        out += '\n';
        return true;
      case 't':
        out += '\t';
        return true;
      case 'r':
        out += '\r';
        return true;
      case 'a':
        out += '\a';
        return true;
      case 'b':
        out += '\b';
        return true;
      case 'f':
        out += '\f';
        return true;
      case 'v':
        out += '\v';
        return true;
      case 'x':
        return read_code_point(2, out);
      case 'u':
        return read_code_point(4, out);
      case 'U':
        return read_code_point(8, out);
      default:
        return false;
    }
  }

  bool read_code_point(std::size_t digits, std::string& out) {
    if (text_.size() - at_ < digits) return false;
    std::uint32_t c = 0;
    const char* const end = text_.data() + at_ + digits;
    const auto [stop, error] = std::from_chars(text_.data() + at_, end, c, 16);
    if (error != std::errc() || stop != end || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
      return false;
    at_ += digits;
    append_utf8(out, c);
    return true;
  }

  std::optional<Value> read_number() {
    const bool negative = take('-');
    const std::size_t begin = at_;
    bool real = false;
    while (std::isdigit(static_cast<unsigned char>(peek())) != 0 || peek() == '.' ||
           peek() == 'e' || peek() == 'E' ||
           ((peek() == '+' || peek() == '-') && at_ > begin &&
            (text_[at_ - 1] == 'e' || text_[at_ - 1] == 'E'))) {
      real = real || std::isdigit(static_cast<unsigned char>(peek())) == 0;
      ++at_;
    }
    const std::string_view digits = text_.substr(begin, at_ - begin);
    if (digits.empty() || !has_end()) return std::nullopt;
    const char *const first = digits.data(), *const last = first + digits.size();
    if (!real) {
      if (digits[0] == '0' && digits.size() > 1) return std::nullopt;
      std::int64_t value = 0;
      const auto [end, error] = std::from_chars(first, last, value);
      if (error != std::errc() || end != last || value > kExactInDouble) return std::nullopt;
      return Value{negative ? -value : value};
    }
    double value = 0;
    const auto [end, error] = std::from_chars(first, last, value);
    if (error != std::errc() || end != last || !std::isfinite(value)) return std::nullopt;
    return Value{negative ? -value : value};
  }

  /// Whether a token ends here: 1_000, 0x10, 1j and 1if are left to Python.
  bool has_end() const {
    const auto c = static_cast<unsigned char>(peek());
    return std::isalnum(c) == 0 && c != '_' && c < 0x80;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int inside_ = 0;
};

}  // namespace

std::optional<bool> literals_equal(std::string_view a, std::string_view b) {
  const auto x = Reader(a).read_all(), y = Reader(b).read_all();
  if (!x || !y) return std::nullopt;
  return equal(*x, *y);
}

}  // namespace kquant
