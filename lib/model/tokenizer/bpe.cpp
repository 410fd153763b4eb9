// Byte-level BPE ("gpt2" models): a text is cut into words by the pre-tokenizer; in each, bytes
// merge pair by pair in the order of the vocabulary's merge list.
// Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; Sennrich et al. 2016.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>

#include "model/tokenizer/byte_alphabet.hpp"
#include "model/tokenizer/merger.hpp"
#include "model/tokenizer/model.hpp"
#include "model/tokenizer/pre_tokenizer.hpp"

namespace kquant::tokenizer {

namespace {

constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";
constexpr std::string_view kPreKey = "tokenizer.ggml.pre";

/// Merge of a pair of tokens; open addressing, at most half full.
class MergeTable {
 public:
  explicit MergeTable(std::size_t n_merges)
      : slots_(std::bit_ceil(2 * std::max<std::size_t>(n_merges, 1))),
        shift_(64 - std::countr_zero(slots_.size())) {}

  /// The first of equal pairs counts.
  void add(Token left, Token right, Merge merge) {
    Slot& slot = slots_[find_slot(pair_of(left, right))];
    if (slot.merge.token == kNoToken) slot = {pair_of(left, right), merge};
  }

  Merge find(Token left, Token right) const {
    return slots_[find_slot(pair_of(left, right))].merge;
  }

 private:
  struct Slot {
    std::uint64_t pair = 0;
    Merge merge;
  };
  static std::uint64_t pair_of(Token left, Token right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }
  std::size_t find_slot(std::uint64_t pair) const {
    constexpr std::uint64_t kGoldenRatio = 0x9E3779B97F4A7C15;  // 2^64 / phi: Fibonacci hashing
    const std::uint64_t mixed = (pair ^ pair >> 32) * kGoldenRatio;
    std::size_t at = static_cast<std::size_t>(mixed >> shift_);
    while (slots_[at].merge.token != kNoToken && slots_[at].pair != pair)
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  std::vector<Slot> slots_;
  int shift_;
};

class ByteLevelBpe final : public Model {
 public:
  ByteLevelBpe(const Vocabulary& vocabulary, PreTokenizer pre_tokenizer, MergeTable merges)
      : vocabulary_(vocabulary),
        pre_tokenizer_(std::move(pre_tokenizer)),
        merges_(std::move(merges)) {
    for (unsigned byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      const Token token = vocabulary.find(kByteAlphabet.spell({&c, 1}));
      // Some vocabularies have a user-defined "ÿ" where byte 0xFF should be: that is another text.
      byte_tokens_[byte] = is_letters(token) ? token : kNoToken;
    }
  }

  Result<void> encode(std::string_view text, bool /*first*/,
                      std::vector<Token>& tokens) const override {
    const auto words = pre_tokenizer_.split(text);
    if (!words) return fail(words.error());
    Merger merger;
    for (const std::string_view word : *words)
      if (auto done = encode_word(word, merger, tokens); !done) return done;
    return {};
  }

  std::string bytes_of(Token token) const override {
    const std::string_view text = vocabulary_.text(token);
    if (vocabulary_.kind(token) == TokenKind::UserDefined) return std::string(text);
    if (vocabulary_.kind(token) == TokenKind::Byte)
      if (const int byte = byte_of_hex_text(text); byte >= 0)
        return std::string(1, static_cast<char>(byte));
    return kByteAlphabet.bytes_of(text);
  }

  bool adds_bos_by_default() const override { return pre_tokenizer_.type().adds_bos; }
  Token default_bos() const override { return 11; }
  Token default_eos() const override { return 11; }

 private:
  /// Its text is spelled in the byte alphabet, and not to be taken as it stands.
  bool is_letters(Token token) const {
    return token != kNoToken && !vocabulary_.is_control(token) &&
           vocabulary_.kind(token) != TokenKind::UserDefined;
  }

  Result<void> encode_word(std::string_view word, Merger& merger,
                           std::vector<Token>& tokens) const {
    if (pre_tokenizer_.type().whole_words) {
      const Token whole = vocabulary_.find(kByteAlphabet.spell(word));
      if (is_letters(whole)) {
        tokens.push_back(whole);
        return {};
      }
    }
    merger.clear();
    for (std::size_t i = 0; i < word.size(); ++i) {
      const auto byte = static_cast<unsigned char>(word[i]);
      if (byte_tokens_[byte] == kNoToken) return inexpressible(byte);
      merger.add({static_cast<std::uint32_t>(i), 1, byte_tokens_[byte]});
    }
    merger.merge([&](const Symbol& left, const Symbol& right) {
      return merges_.find(left.token, right.token);
    });
    merger.for_each([&](const Symbol& symbol) { tokens.push_back(symbol.token); });
    return {};
  }

  const Vocabulary& vocabulary_;
  PreTokenizer pre_tokenizer_;
  MergeTable merges_;
  std::array<Token, 256> byte_tokens_{};
};

/// "Ġt he": two texts with one space between them, which neither contains as its first character.
Result<MergeTable> load_merges(const gguf::File& file, const Vocabulary& vocabulary) {
  const auto lines = file.get_strings(kMergesKey);
  if (!lines) return fail(lines.error());
  MergeTable merges(lines->size());
  std::string joined;
  for (std::size_t rank = 0; rank < lines->size(); ++rank) {
    const std::string_view line = (*lines)[rank];
    const std::size_t space = line.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == line.size())
      return fail(ErrorCode::kBadFile,
                  fmt::format("{}: {}[{}] is '{}', not two texts with a space between them",
                              file.path().string(), kMergesKey, rank, line));
    const Token left = vocabulary.find(line.substr(0, space));
    const Token right = vocabulary.find(line.substr(space + 1));
    joined.assign(line);
    joined.erase(space, 1);
    const Token both = vocabulary.find(joined);
    // A merge of or into something that is no token can never lead to one.
    if (left == kNoToken || right == kNoToken || both == kNoToken) continue;
    merges.add(left, right, {static_cast<std::uint32_t>(rank), both});
  }
  return merges;
}

}  // namespace

Result<std::unique_ptr<Model>> make_byte_level_bpe(const gguf::File& file,
                                                   const Vocabulary& vocabulary) {
  std::string_view pre = "default";
  if (file.find(kPreKey)) {
    const auto value = file.get_string(kPreKey);
    if (!value) return fail(value.error());
    pre = *value;
  }
  auto pre_tokenizer = PreTokenizer::create(pre);
  if (!pre_tokenizer)
    return fail(pre_tokenizer.error(), fmt::format("{}: {}", file.path().string(), kPreKey));
  auto merges = load_merges(file, vocabulary);
  if (!merges) return fail(merges.error());
  return std::make_unique<ByteLevelBpe>(vocabulary, std::move(*pre_tokenizer), std::move(*merges));
}

}  // namespace kquant::tokenizer
