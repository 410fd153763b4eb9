#include "model/tokenizer/vocabulary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

namespace kquant::tokenizer {

namespace {

constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr std::string_view kKindsKey = "tokenizer.ggml.token_type";
constexpr std::string_view kScoresKey = "tokenizer.ggml.scores";

tl::unexpected<Error> bad_array(const gguf::File& file, std::string_view key, std::size_t found,
                                std::size_t n_tokens) {
  return fail(ErrorCode::kBadFile, fmt::format("{}: {} has {} entries for {} tokens",
                                               file.path().string(), key, found, n_tokens));
}

TokenKind kind_of(std::int64_t value) {
  return value >= 0 && value <= 6 ? static_cast<TokenKind>(value) : TokenKind::Undefined;
}

}  // namespace

Result<Vocabulary> Vocabulary::load(const gguf::File& file) {
  const auto texts = file.get_strings(kTokensKey);
  if (!texts) return fail(texts.error());
  const std::size_t n = texts->size();
  if (n == 0 || n > std::numeric_limits<Token>::max())
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: {} has {} entries", file.path().string(), kTokensKey, n));

  Vocabulary vocabulary;
  std::size_t n_bytes = 0;
  for (const std::string_view text : *texts) n_bytes += text.size();
  vocabulary.texts_.reserve(n_bytes);
  vocabulary.ends_.reserve(n + 1);
  vocabulary.ends_.push_back(0);
  for (const std::string_view text : *texts) {
    vocabulary.texts_ += text;
    vocabulary.ends_.push_back(vocabulary.texts_.size());
    vocabulary.longest_text_ = std::max(vocabulary.longest_text_, text.size());
  }

  vocabulary.kinds_.assign(n, TokenKind::Normal);
  if (file.find(kKindsKey)) {
    const auto kinds = file.get_ints(kKindsKey);
    if (!kinds) return fail(kinds.error());
    if (kinds->size() != n) return bad_array(file, kKindsKey, kinds->size(), n);
    for (std::size_t i = 0; i < n; ++i) vocabulary.kinds_[i] = kind_of((*kinds)[i]);
  }

  if (file.find(kScoresKey)) {
    auto scores = file.get_floats(kScoresKey);
    if (!scores) return fail(scores.error());
    if (scores->size() != n) return bad_array(file, kScoresKey, scores->size(), n);
    vocabulary.scores_ = std::move(*scores);
    for (std::size_t i = 0; i < n; ++i) {
      if (std::isnan(vocabulary.scores_[i]))
        return fail(ErrorCode::kBadFile, fmt::format("{}: {}: the score of token {} is NaN",
                                                     file.path().string(), kScoresKey, i));
    }
  }
  vocabulary.build_index();
  return vocabulary;
}

void Vocabulary::build_index() {
  index_.assign(std::bit_ceil(2 * size()), Slot{});
  const std::size_t mask = index_.size() - 1;
  for (std::size_t i = 0; i < size(); ++i) {
    const auto token = static_cast<Token>(i);
    const std::string_view wanted = text(token);
    if (wanted.empty()) continue;
    const std::uint64_t hash = std::hash<std::string_view>{}(wanted);
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    std::size_t at = hash & mask;
    while (index_[at].token != kNoToken &&
           !(index_[at].tag == tag && text(index_[at].token) == wanted))
      at = (at + 1) & mask;
    if (index_[at].token == kNoToken) index_[at] = {tag, token};  // of twins the first is found
  }
}

Token Vocabulary::find(std::string_view wanted) const {
  if (wanted.empty() || wanted.size() > longest_text_) return kNoToken;
  const std::size_t mask = index_.size() - 1;
  const std::uint64_t hash = std::hash<std::string_view>{}(wanted);
  const auto tag = static_cast<std::uint32_t>(hash >> 32);
  for (std::size_t at = hash & mask; index_[at].token != kNoToken; at = (at + 1) & mask) {
    if (index_[at].tag == tag && text(index_[at].token) == wanted) return index_[at].token;
  }
  return kNoToken;
}

tl::unexpected<Error> inexpressible(unsigned char byte) {
  return fail(ErrorCode::kUnsupported,
              fmt::format("the vocabulary has no token for byte 0x{:02X}", byte));
}

int byte_of_hex_text(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  int byte = 0;
  for (const char digit : text.substr(3, 2)) {
    if (digit >= '0' && digit <= '9') {
      byte = byte * 16 + (digit - '0');
    } else if (digit >= 'A' && digit <= 'F') {
      byte = byte * 16 + (digit - 'A' + 10);
    } else if (digit >= 'a' && digit <= 'f') {
      byte = byte * 16 + (digit - 'a' + 10);
    } else {
      return -1;
    }
  }
  return byte;
}

}  // namespace kquant::tokenizer
