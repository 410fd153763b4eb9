#include "kquant/model/tokenizer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <limits>

#include "model/tokenizer/model.hpp"
#include "model/tokenizer/special_tokens.hpp"
#include "model/tokenizer/vocabulary.hpp"

namespace kquant {

using tokenizer::kNoToken;
using tokenizer::Model;
using tokenizer::SpecialTokens;
using tokenizer::TokenKind;
using tokenizer::Vocabulary;

struct Tokenizer::State {
  explicit State(Vocabulary vocabulary_in) : vocabulary(std::move(vocabulary_in)) {}

  Vocabulary vocabulary;
  std::vector<Token> ends = tokenizer::settle_well_known(vocabulary);
  SpecialTokens special{vocabulary};
  std::unique_ptr<Model> model;
  std::optional<Token> bos, eos;
  bool adds_bos = false, adds_eos = false;
  std::vector<bool> strips_right;  // by token: spaces behind it belong to it; empty: none does
  std::string chat_template;

  bool is_special(Token token) const {
    return vocabulary.is_control(token) || vocabulary.kind(token) == TokenKind::UserDefined;
  }
};

namespace {

/// An id of a special token: the file's, or `fallback` where it says nothing and that is a token.
Result<std::optional<Token>> read_id(const gguf::File& file, const std::string& key, Token fallback,
                                     const Vocabulary& vocabulary) {
  if (!file.find(key))
    return vocabulary.contains(fallback) ? std::optional(fallback) : std::nullopt;
  const auto id = file.get_int(key);
  if (!id) return fail(id.error());
  if (*id == -1 || *id == std::numeric_limits<std::uint32_t>::max()) return std::nullopt;  // "none"
  if (!vocabulary.contains(*id))
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: {} is {}, but the vocabulary has {} tokens", file.path().string(),
                            key, *id, vocabulary.size()));
  return static_cast<Token>(*id);
}

Result<bool> read_flag(const gguf::File& file, const std::string& key, bool fallback) {
  return file.find(key) ? file.get_bool(key) : Result<bool>(fallback);
}

Result<std::unique_ptr<Model>> make_model(const gguf::File& file, const Vocabulary& vocabulary) {
  const auto name = file.get_string("tokenizer.ggml.model");
  if (!name) return fail(name.error());
  if (*name == "llama") return tokenizer::make_sentence_piece(file, vocabulary);
  if (*name == "gpt2") return tokenizer::make_byte_level_bpe(file, vocabulary);
  return fail(ErrorCode::kUnsupported,
              fmt::format("{}: tokenizer.ggml.model is '{}'; supported are 'llama' and 'gpt2'",
                          file.path().string(), *name));
}

/// GGUF has no key for "this token takes the spaces behind it along", which Phi-3's special tokens
/// do, but for three: they are known by the model's name.
std::vector<bool> find_right_strippers(const gguf::File& file, const Vocabulary& vocabulary) {
  const auto value = file.find("general.name");
  std::string name(value ? value->as_string().value_or("") : "");
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (name.find("phi-3") == std::string::npos && name.find("phi3") == std::string::npos) return {};
  std::vector<bool> strips(vocabulary.size());
  for (std::size_t i = 0; i < strips.size(); ++i) {
    const auto token = static_cast<Token>(i);
    const std::string_view text = vocabulary.text(token);
    strips[i] =
        text == "</s>" ||
        ((vocabulary.is_control(token) || vocabulary.kind(token) == TokenKind::UserDefined) &&
         text != "<unk>" && text != "<s>" && text != "<|endoftext|>");
  }
  return strips;
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::load(const gguf::File& file) {
  auto vocabulary = Vocabulary::load(file);
  if (!vocabulary) return fail(vocabulary.error());
  auto state = std::make_unique<State>(std::move(*vocabulary));
  auto model = make_model(file, state->vocabulary);
  if (!model) return fail(model.error());
  state->model = std::move(*model);

  const std::string prefix = "tokenizer.ggml.";
  const auto bos =
      read_id(file, prefix + "bos_token_id", state->model->default_bos(), state->vocabulary);
  if (!bos) return fail(bos.error());
  const auto eos =
      read_id(file, prefix + "eos_token_id", state->model->default_eos(), state->vocabulary);
  if (!eos) return fail(eos.error());
  state->bos = *bos;
  state->eos = *eos;
  if (*eos) state->ends.push_back(**eos);
  for (const char* const key : {"eot_token_id", "eom_token_id"}) {
    const auto id = read_id(file, prefix + key, kNoToken, state->vocabulary);
    if (!id) return fail(id.error());
    if (*id) state->ends.push_back(**id);
  }

  const auto adds_bos =
      read_flag(file, prefix + "add_bos_token", state->model->adds_bos_by_default());
  if (!adds_bos) return fail(adds_bos.error());
  const auto adds_eos = read_flag(file, prefix + "add_eos_token", false);
  if (!adds_eos) return fail(adds_eos.error());
  if ((*adds_bos && !*bos) || (*adds_eos && !*eos))
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: texts are to {} with a special token, but the file names none",
                            file.path().string(), *adds_bos && !*bos ? "start" : "end"));
  state->adds_bos = *adds_bos;
  state->adds_eos = *adds_eos;

  state->strips_right = find_right_strippers(file, state->vocabulary);
  if (const auto value = file.find("tokenizer.chat_template"))
    state->chat_template = std::string(value->as_string().value_or(""));
  return Tokenizer(std::move(state));
}

Result<std::vector<Token>> Tokenizer::encode(std::string_view text,
                                             const EncodeOptions& options) const {
  if (text.size() > std::numeric_limits<std::int32_t>::max() / 4)  // '▁' takes three bytes
    return fail(ErrorCode::kOutOfRange,
                fmt::format("a text of {} bytes is too long to encode at once", text.size()));
  std::vector<Token> tokens;
  tokens.reserve(text.size() / 3 + 2);
  if (options.add_special && adds_bos()) tokens.push_back(*state_->bos);

  bool first = true;
  for (std::size_t at = 0; at < text.size();) {
    const auto match = state_->special.find(text, at, options.parse_special);
    const std::size_t plain_end = match ? match->begin : text.size();
    if (plain_end > at) {
      auto done = state_->model->encode(text.substr(at, plain_end - at), first, tokens);
      if (!done) return fail(done.error());
    }
    if (!match) break;
    tokens.push_back(match->token);
    first = true;
    at = match->end;
    if (!state_->strips_right.empty() &&
        state_->strips_right[static_cast<std::size_t>(match->token)])
      while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) ++at;
  }

  if (options.add_special && adds_eos()) tokens.push_back(*state_->eos);
  return tokens;
}

std::string Tokenizer::decode(std::span<const Token> tokens, bool with_special) const {
  std::string text;
  bool first = true;  // the next token's leading space was put there by encode()
  for (const Token token : tokens) {
    if (!state_->vocabulary.contains(token)) continue;
    const std::string bytes = piece(token, with_special);
    const bool special = state_->is_special(token);
    const bool strip = first && !special && state_->model->adds_space() && bytes.starts_with(' ');
    text.append(bytes, strip ? 1 : 0);
    first = special;
  }
  return text;
}

std::string Tokenizer::piece(Token token, bool with_special) const {
  const Vocabulary& vocabulary = state_->vocabulary;
  if (!vocabulary.contains(token)) return {};
  if (vocabulary.is_control(token))
    return with_special ? std::string(vocabulary.text(token)) : std::string();
  return state_->model->bytes_of(token);
}

std::string_view Tokenizer::stored_text(Token token) const {
  return state_->vocabulary.contains(token) ? state_->vocabulary.text(token) : std::string_view();
}

std::size_t Tokenizer::size() const {
  return state_->vocabulary.size();
}
std::optional<Token> Tokenizer::bos() const {
  return state_->bos;
}
std::optional<Token> Tokenizer::eos() const {
  return state_->eos;
}
bool Tokenizer::adds_bos() const {
  return state_->adds_bos;
}
bool Tokenizer::adds_eos() const {
  return state_->adds_eos;
}

bool Tokenizer::ends_generation(Token token) const {
  return std::find(state_->ends.begin(), state_->ends.end(), token) != state_->ends.end();
}

std::optional<Token> Tokenizer::find(std::string_view stored_text) const {
  const Token token = state_->vocabulary.find(stored_text);
  return token == kNoToken ? std::nullopt : std::optional(token);
}

std::string_view Tokenizer::chat_template() const {
  return state_->chat_template;
}

}  // namespace kquant
