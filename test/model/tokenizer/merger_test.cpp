#include "model/tokenizer/merger.hpp"

#include <catch2/catch.hpp>
#include <map>
#include <random>

using namespace kquant;
using tokenizer::Merge;
using tokenizer::Merger;
using tokenizer::Symbol;

namespace {

using Merges = std::map<std::pair<Token, Token>, Merge>;

/// As the definition says: look at all pairs, merge the best, start again.
std::vector<Token> merge_naively(std::vector<Token> tokens, const Merges& merges) {
  for (;;) {
    std::size_t best = tokens.size();
    Merge best_merge{0xFFFFFFFF, -1};
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      const auto found = merges.find({tokens[i], tokens[i + 1]});
      if (found != merges.end() && found->second.priority < best_merge.priority) {
        best = i;
        best_merge = found->second;
      }
    }
    if (best == tokens.size()) return tokens;
    tokens[best] = best_merge.token;
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

}  // namespace

TEST_CASE("merging by queue is merging by the definition", "[tokenizer]") {
  std::mt19937 random(11);
  Merger merger;  // one for all, as in use
  for (int round = 0; round < 500; ++round) {
    // A random merge list over few letters, so that pairs compete and merges build on merges.
    Token n_tokens = 3;
    Merges merges;
    for (std::uint32_t rank = 0; rank < 12; ++rank) {
      const auto any = [&] {
        return static_cast<Token>(random() % static_cast<std::uint32_t>(n_tokens));
      };
      const std::pair<Token, Token> pair{any(), any()};
      if (merges.emplace(pair, Merge{rank, n_tokens}).second) ++n_tokens;
    }
    std::vector<Token> tokens(random() % 60);
    for (Token& token : tokens) token = static_cast<Token>(random() % 3);

    merger.clear();
    for (std::size_t i = 0; i < tokens.size(); ++i)
      merger.add({static_cast<std::uint32_t>(i), 1, tokens[i]});
    merger.merge([&](const Symbol& left, const Symbol& right) {
      const auto found = merges.find({left.token, right.token});
      return found == merges.end() ? Merge{} : found->second;
    });
    std::vector<Token> merged;
    std::uint32_t end = 0;
    merger.for_each([&](const Symbol& symbol) {
      CHECK(symbol.begin == end);
      end += symbol.size;
      merged.push_back(symbol.token);
    });
    CHECK(end == tokens.size());
    CHECK(merged == merge_naively(tokens, merges));
  }
}
