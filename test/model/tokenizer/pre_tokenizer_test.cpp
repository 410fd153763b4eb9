#include "model/tokenizer/pre_tokenizer.hpp"

#include <catch2/catch.hpp>
#include <random>

using namespace kquant;
using tokenizer::PreTokenizer;

namespace {

using Words = std::vector<std::string>;

Words split(std::string_view name, std::string_view text) {
  const auto pre_tokenizer = PreTokenizer::create(name);
  if (!pre_tokenizer) FAIL(pre_tokenizer.error().message);
  const auto words = pre_tokenizer->split(text);
  if (!words) FAIL(words.error().message);
  return {words->begin(), words->end()};
}

std::vector<std::string> all_names() {
  std::vector<std::string> names;
  for (const auto& type : tokenizer::pre_types())
    names.emplace_back(type.names.substr(0, type.names.find(' ')));
  return names;
}

}  // namespace

TEST_CASE("the words are the text", "[tokenizer]") {
  std::mt19937 random(3);
  const Words pieces{"a",    "B",    "é",    "中",       "\u0301", " ",      "  ", "\n",
                     "\r\n", "\t",   "1",    "234",      "'s",     "'",      "!",  "。",
                     "$",    "🙂", "\xFF", "\xE2\x82", "\u180E", "\u2028", "½"};
  for (const std::string& name : all_names()) {
    INFO(name);
    const auto pre_tokenizer = PreTokenizer::create(name);
    if (!pre_tokenizer) FAIL(pre_tokenizer.error().message);
    for (int i = 0; i < 300; ++i) {
      std::string text;
      for (auto n = random() % 30; n > 0; --n) text += pieces[random() % pieces.size()];
      const auto words = pre_tokenizer->split(text);
      REQUIRE(words);
      std::string joined;
      for (const std::string_view word : *words) {
        CHECK_FALSE(word.empty());
        joined += word;
      }
      CHECK(joined == text);
    }
  }
}

TEST_CASE("digits stay together, or go in threes, or alone", "[tokenizer]") {
  const Words together{"1234567"}, threes{"123", "456", "7"},
      alone{"1", "2", "3", "4", "5", "6", "7"};
  for (const char* const name : {"gpt-2", "deepseek-llm", "bloom"})
    CHECK(split(name, "1234567") == together);
  for (const char* const name : {"default", "llama-bpe", "gpt-4o", "deepseek-v3", "falcon"})
    CHECK(split(name, "1234567") == threes);
  for (const char* const name :
       {"qwen2", "starcoder", "deepseek-coder", "tekken", "command-r", "viking", "seed-coder"})
    CHECK(split(name, "1234567") == alone);
}

TEST_CASE("contractions, spaces and newlines", "[tokenizer]") {
  CHECK(split("gpt-2", "we've  it's\n\nI'LL") ==
        Words{"we", "'ve", " ", " it", "'s", "\n", "\n", "I", "'", "LL"});
  CHECK(split("llama-bpe", "we've  it's\n\nI'LL (a)\n") ==
        Words{"we", "'ve", " ", " it", "'s", "\n\n", "I", "'LL", " (", "a", ")\n"});
  CHECK(split("qwen2", " \n  x") == Words{" \n", " ", " x"});
  CHECK(split("gpt-4o", "fooBar HTTPServer it's") == Words{"foo", "Bar", " HTTPServer", " it's"});
  CHECK(split("tekken", "É́cole ΑΒγ") == Words{"É́cole", " ΑΒγ"});
  CHECK(split("deepseek-coder", "a\n\nb, c") == Words{"a", "\n", "\n", "b", ",", " c"});
}

TEST_CASE("white space is Unicode's", "[tokenizer]") {
  // Next line and ideographic space are white space; the Mongolian vowel separator is none, and
  // neither is the zero-width space.
  for (const char* const space : {"\u0085", "\u00A0", "\u2003", "\u3000", "\u2029"})
    CHECK(split("gpt-2", std::string("!") + space + "!") == Words{"!", space, "!"});
  for (const char* const other : {"\u180E", "\u200B"})
    CHECK(split("gpt-2", std::string("!") + other + "!") == Words{std::string("!") + other + "!"});
}

TEST_CASE("bytes that are no UTF-8 do not tear words or vanish", "[tokenizer]") {
  CHECK(split("gpt-2", "ab\xFF\xFE cd") == Words{"ab", "\xFF\xFE", " cd"});
  CHECK(split("llama-bpe", "\xE2\x82") == Words{"\xE2\x82"});
}

TEST_CASE("long runs take linear time and no stack", "[tokenizer][slow]") {
  for (const std::string& name : all_names())
    for (const char* const unit : {"a", "A", " ", "\t", "\n", "9", "\xFF", "é", "\u0301", "'",
                                   "🙂", "中", "'s", " \n", "aA", "a ", "!\n", " '"}) {
      std::string text;  // long enough for minutes of quadratic time, and for a deep stack to end
      while (text.size() < (1U << 18)) text += unit;
      for (const char* const end : {"", "x", "\n"}) {
        INFO(name << " '" << unit << "' then '" << end << "'");
        std::size_t n_bytes = 0;
        for (const std::string& word : split(name, text + end)) n_bytes += word.size();
        CHECK(n_bytes == text.size() + std::string_view(end).size());
      }
    }
}

TEST_CASE("an unknown pre-tokenizer is refused by name", "[tokenizer]") {
  const auto unknown = PreTokenizer::create("martian");
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == ErrorCode::kUnsupported);
  CHECK(unknown.error().message.find("'martian'") != std::string::npos);
  CHECK(unknown.error().message.find("qwen2") != std::string::npos);
}
