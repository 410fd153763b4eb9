// Special tokens, ids from metadata, and files that must be refused.

#include <catch2/catch.hpp>
#include <limits>

#include "kquant/model/tokenizer.hpp"
#include "vocabularies.hpp"

using namespace kquant;
using gguf::Metadata;

namespace {

constexpr std::int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6;

struct Entry {
  std::string text;
  std::int32_t kind = kNormal;
  float score = 0;
};

/// A vocabulary of "llama" kind: <unk>, <s>, </s>, 256 bytes, then `more`.
test::EditedVocabulary sentence_piece(const std::vector<Entry>& more,
                                      const std::function<void(Metadata&)>& edit = {}) {
  std::vector<Entry> entries{{"<unk>", kUnknown}, {"<s>", kControl}, {"</s>", kControl}};
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char* const digits = "0123456789ABCDEF";
    entries.push_back({std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">", kByte});
  }
  entries.insert(entries.end(), more.begin(), more.end());
  std::vector<std::string> texts;
  std::vector<std::int32_t> kinds;
  std::vector<float> scores;
  for (const Entry& entry : entries) {
    texts.push_back(entry.text);
    kinds.push_back(entry.kind);
    scores.push_back(entry.score);
  }
  return test::EditedVocabulary([&](Metadata& metadata) {
    for (const char* const key : {"merges", "pre", "bos_token_id", "eos_token_id", "add_bos_token"})
      metadata.erase(std::string("tokenizer.ggml.") + key);
    metadata.set_string("tokenizer.ggml.model", "llama");
    metadata.set_strings("tokenizer.ggml.tokens", texts);
    metadata.set_ints("tokenizer.ggml.token_type", kinds);
    metadata.set_floats("tokenizer.ggml.scores", scores);
    if (edit) edit(metadata);
  });
}

constexpr Token kFirst = 259;  // of `more`

std::vector<Token> encode(const Tokenizer& tokenizer, std::string_view text, bool parse = false) {
  auto tokens = tokenizer.encode(text, {.add_special = false, .parse_special = parse});
  if (!tokens) FAIL(tokens.error().message);
  return std::move(*tokens);
}

using Tokens = std::vector<Token>;

}  // namespace

TEST_CASE("the pair with the best score merges first, the leftmost of equals", "[tokenizer]") {
  const auto tokenizer = sentence_piece({{"a", kNormal, -9},
                                         {"b", kNormal, -9},
                                         {"c", kNormal, -9},
                                         {"ab", kNormal, -2},
                                         {"bc", kNormal, -1},
                                         {"aa", kNormal, -3},
                                         {"\xE2\x96\x81", kNormal, -8}})
                             .load();
  REQUIRE(tokenizer);
  const Token a = kFirst, ab = a + 3, bc = a + 4, aa = a + 5, space = a + 6;
  CHECK(encode(*tokenizer, "abc") == Tokens{space, a, bc});
  CHECK(encode(*tokenizer, "ab") == Tokens{space, ab});
  CHECK(encode(*tokenizer, "aaa") == Tokens{space, aa, a});
  CHECK(encode(*tokenizer, "") == Tokens{});
  CHECK(tokenizer->encode("") == Tokens{1});
  // Byte fallback, one token a byte: é is not in the vocabulary.
  CHECK(encode(*tokenizer, "é") == Tokens{space, 3 + 0xC3, 3 + 0xA9});
}

TEST_CASE("merging never makes a control or byte token out of plain text", "[tokenizer]") {
  const auto tokenizer =
      sentence_piece(
          {{"<"}, {"s"}, {">"}, {"<s"}, {"0"}, {"x"}, {"A"}, {"<0"}, {"x0"}, {"x0A"}, {"<0x0A"}},
          [](Metadata& m) { m.set_bool("tokenizer.ggml.add_space_prefix", false); })
          .load();
  REQUIRE(tokenizer);
  CHECK(encode(*tokenizer, "<s>") == Tokens{kFirst + 3, kFirst + 2});
  CHECK(encode(*tokenizer, "<s>", true) == Tokens{1});
  for (const Token token : encode(*tokenizer, "<0x0A>")) CHECK(token >= kFirst);
  CHECK(tokenizer->decode(encode(*tokenizer, "<0x0A>")) == "<0x0A>");
}

TEST_CASE("special tokens: which are found when", "[tokenizer]") {
  const auto tokenizer = sentence_piece({{"<x>", kUserDefined},
                                         {"<x><y>", kUserDefined},
                                         {"<c>", kControl},
                                         {"\xE2\x96\x81"},
                                         {"<"},
                                         {">"},
                                         {"c"},
                                         {"y"}})
                             .load();
  REQUIRE(tokenizer);
  const Token x = kFirst, xy = x + 1, control = x + 2, space = x + 3, less = x + 4, y = x + 7;
  CHECK(encode(*tokenizer, "<x>") == Tokens{x});
  CHECK(encode(*tokenizer, "<x><y>") == Tokens{xy});  // the longest
  CHECK(encode(*tokenizer, "<x><x><y>") == Tokens{x, xy});
  CHECK(encode(*tokenizer, "<x><") == Tokens{x, space, less});
  CHECK(encode(*tokenizer, "y<x>y") == Tokens{space, y, x, space, y});
  CHECK(encode(*tokenizer, "<c>").size() == 4);
  CHECK(encode(*tokenizer, "<c>", true) == Tokens{control});

  CHECK(tokenizer->decode(Tokens{1, space, y, x, space, y, control, 2}) == "y<x>y");
  CHECK(tokenizer->decode(Tokens{1, space, y, control}, true) == "<s>y<c>");
  CHECK(tokenizer->piece(control).empty());
  CHECK(tokenizer->piece(control, true) == "<c>");
  CHECK(tokenizer->piece(space) == " ");
  CHECK(tokenizer->stored_text(space) == "\xE2\x96\x81");
  CHECK(tokenizer->find("<x>") == x);
  CHECK_FALSE(tokenizer->find("<none>"));
}

TEST_CASE("ids outside of the vocabulary are harmless", "[tokenizer]") {
  const Tokenizer tokenizer = test::load_tokenizer(test::all_vocabularies().front());
  const auto size = static_cast<Token>(tokenizer.size());
  for (const Token token :
       {-1, size, std::numeric_limits<Token>::max(), std::numeric_limits<Token>::min()}) {
    CHECK(tokenizer.piece(token).empty());
    CHECK(tokenizer.stored_text(token).empty());
    CHECK_FALSE(tokenizer.ends_generation(token));
    CHECK(tokenizer.decode(Tokens{token, token}).empty());
  }
}

TEST_CASE("Phi-3's special tokens take the spaces behind them along", "[tokenizer]") {
  const std::vector<Entry> entries{{"<|user|>", kUserDefined}, {"a"}, {"\xE2\x96\x81"}};
  const Token user = kFirst, a = user + 1, space = user + 2;
  const auto phi = sentence_piece(entries, [](Metadata& m) {
                     m.set_string("general.name", "Phi-3-mini");
                   }).load();
  const auto other = sentence_piece(entries).load();
  REQUIRE(phi);
  REQUIRE(other);
  CHECK(encode(*phi, "<|user|> \n a") == Tokens{user, space, a});
  CHECK(encode(*other, "<|user|>  a") == Tokens{user, space, space, space, a});
}

TEST_CASE("what starts, ends and stops", "[tokenizer]") {
  const auto edit = [](Metadata& m) {
    m.set_bool("tokenizer.ggml.add_bos_token", false);
    m.set_bool("tokenizer.ggml.add_eos_token", true);
    m.set_u32("tokenizer.ggml.eot_token_id", kFirst);
    m.set_string("tokenizer.chat_template", "{{ messages }}");
  };
  const auto tokenizer =
      sentence_piece({{"<turn>", kControl}, {"<|im_end|>"}, {"a"}, {"\xE2\x96\x81"}}, edit).load();
  REQUIRE(tokenizer);
  CHECK(tokenizer->bos() == 1);
  CHECK(tokenizer->eos() == 2);
  CHECK_FALSE(tokenizer->adds_bos());
  CHECK(tokenizer->adds_eos());
  CHECK(tokenizer->encode("a") == Tokens{kFirst + 3, kFirst + 2, 2});
  CHECK(tokenizer->ends_generation(2));
  CHECK(tokenizer->ends_generation(kFirst));
  CHECK(tokenizer->ends_generation(kFirst + 1));  // by its text
  CHECK_FALSE(tokenizer->ends_generation(1));
  CHECK_FALSE(tokenizer->ends_generation(kFirst + 2));
  // A known control token is one even where the file calls it normal.
  CHECK(encode(*tokenizer, "<|im_end|>").size() > 1);
  CHECK(encode(*tokenizer, "<|im_end|>", true) == Tokens{kFirst + 1});
  CHECK(tokenizer->chat_template() == "{{ messages }}");
}

TEST_CASE("files that must be refused", "[tokenizer]") {
  struct Case {
    const char* what;
    std::function<void(Metadata&)> edit;
    ErrorCode code;
    const char* message;  // a part of it
  };
  const std::string t = "tokenizer.ggml.";
  const std::vector<std::string> three{"a", "b", "c"};
  const Case cases[] = {
      {"no model", [&](Metadata& m) { m.erase(t + "model"); }, ErrorCode::kNotFound, "model"},
      {"model of a wrong type", [&](Metadata& m) { m.set_u32(t + "model", 1); },
       ErrorCode::kBadFile, "model"},
      {"WordPiece", [&](Metadata& m) { m.set_string(t + "model", "bert"); },
       ErrorCode::kUnsupported, "'bert'"},
      {"Unigram", [&](Metadata& m) { m.set_string(t + "model", "t5"); }, ErrorCode::kUnsupported,
       "'t5'"},
      {"unknown pre-tokenizer", [&](Metadata& m) { m.set_string(t + "pre", "gpt-9"); },
       ErrorCode::kUnsupported, "llama-bpe"},
      {"pre-tokenizer of a wrong type", [&](Metadata& m) { m.set_bool(t + "pre", true); },
       ErrorCode::kBadFile, "pre"},
      {"no tokens", [&](Metadata& m) { m.erase(t + "tokens"); }, ErrorCode::kNotFound, "tokens"},
      {"empty list of tokens", [&](Metadata& m) { m.set_strings(t + "tokens", {}); },
       ErrorCode::kBadFile, "tokens"},
      {"numbers for tokens",
       [&](Metadata& m) {
         m.set_ints(t + "tokens", std::vector<std::int32_t>{1, 2});
       },
       ErrorCode::kBadFile, "tokens"},
      {"too few kinds",
       [&](Metadata& m) {
         m.set_ints(t + "token_type", std::vector<std::int32_t>{1, 1});
       },
       ErrorCode::kBadFile, "token_type"},
      {"strings for kinds", [&](Metadata& m) { m.set_strings(t + "token_type", three); },
       ErrorCode::kBadFile, "token_type"},
      {"too few scores", [&](Metadata& m) { m.set_floats(t + "scores", std::vector<float>{1.0F}); },
       ErrorCode::kBadFile, "scores"},
      {"strings for scores", [&](Metadata& m) { m.set_strings(t + "scores", three); },
       ErrorCode::kBadFile, "scores"},
      {"no merges", [&](Metadata& m) { m.erase(t + "merges"); }, ErrorCode::kNotFound, "merges"},
      {"a merge of one text", [&](Metadata& m) { m.set_strings(t + "merges", three); },
       ErrorCode::kBadFile, "merges"},
      {"BOS outside", [&](Metadata& m) { m.set_u32(t + "bos_token_id", 1962); },
       ErrorCode::kBadFile, "bos_token_id"},
      {"EOS below", [&](Metadata& m) { m.set_i32(t + "eos_token_id", -7); }, ErrorCode::kBadFile,
       "eos_token_id"},
      {"EOT outside", [&](Metadata& m) { m.set_u32(t + "eot_token_id", 4000000000U); },
       ErrorCode::kBadFile, "eot_token_id"},
      {"EOS a string", [&](Metadata& m) { m.set_string(t + "eos_token_id", "2"); },
       ErrorCode::kBadFile, "eos_token_id"},
      {"a flag of a wrong type", [&](Metadata& m) { m.set_u32(t + "add_bos_token", 1); },
       ErrorCode::kBadFile, "add_bos_token"},
      {"BOS wanted, but there is none",
       [&](Metadata& m) {
         m.set_i32(t + "bos_token_id", -1);
         m.set_bool(t + "add_bos_token", true);
       },
       ErrorCode::kBadFile, "start"},
  };
  for (const Case& bad : cases) {
    INFO(bad.what);
    const auto tokenizer = test::EditedVocabulary(bad.edit).load();
    REQUIRE_FALSE(tokenizer);
    CHECK(tokenizer.error().code == bad.code);
    INFO(tokenizer.error().message);
    CHECK(tokenizer.error().message.find(bad.message) != std::string::npos);
    CHECK(tokenizer.error().message.find("edited.gguf") != std::string::npos);
    CHECK(tokenizer.error().message.find('\n') == std::string::npos);
  }
  const auto nan = sentence_piece({{"a", kNormal, std::numeric_limits<float>::quiet_NaN()}}).load();
  REQUIRE_FALSE(nan);
  CHECK(nan.error().code == ErrorCode::kBadFile);
}

TEST_CASE("odd but harmless files load", "[tokenizer]") {
  const std::string t = "tokenizer.ggml.";
  const auto check = [](const std::function<void(Metadata&)>& edit) {
    const auto tokenizer = test::EditedVocabulary(edit).load();
    if (!tokenizer) FAIL(tokenizer.error().message);
    CHECK(tokenizer->decode(encode(*tokenizer, "it's 42 ünits")) == "it's 42 ünits");
  };
  check([&](Metadata& m) { m.erase(t + "pre"); });  // "default"
  check([&](Metadata& m) { m.erase(t + "token_type"); });
  check([&](Metadata& m) { m.set_strings(t + "merges", {}); });
  check([&](Metadata& m) { m.set_strings(t + "merges", std::vector<std::string>{"no token"}); });
  check([&](Metadata& m) { m.set_u32(t + "bos_token_id", 0xFFFFFFFF); });
  // Twins and empty texts: found is the first of twins.
  const auto twins = sentence_piece({{"a"}, {"a"}, {""}, {"\xE2\x96\x81"}}).load();
  REQUIRE(twins);
  CHECK(encode(*twins, "a") == Tokens{kFirst + 3, kFirst});
}
