#pragma once
// Pair merging, the heart of both BPE flavours: of all adjacent pairs of symbols that may merge,
// the best (leftmost of equals) merges first, until none may.
//
//     symbols   l - o - w - e - r        a doubly linked list over one array
//     queue     (l,o): 3  (e,r): 7       candidates, lowest (priority, left symbol) on top
//
// A merge makes its neighbours' candidates stale; those are recognised when they come up, because
// a symbol only ever grows to the right: a candidate is current exactly while its left symbol and
// that symbol's right neighbour still have the total length they had. O(n log n) for n symbols.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kquant/model/tokenizer.hpp"

namespace kquant::tokenizer {

struct Symbol {
  std::uint32_t begin = 0, size = 0;  ///< bytes of the text; size 0: merged into its left neighbour
  Token token = -1;
};

struct Merge {
  std::uint32_t priority = 0;  ///< the lower the earlier
  Token token = -1;            ///< of the two together; -1: they do not merge
};

/// Working memory, to be used again for the next text.
class Merger {
 public:
  void clear() { nodes_.clear(); }
  void add(Symbol symbol) {
    const auto i = static_cast<std::int32_t>(nodes_.size());
    nodes_.push_back({symbol, i - 1, i + 1});
  }

  /// `find(left, right)` gives the Merge of two adjacent symbols.
  template <class Find>
  void merge(const Find& find) {
    if (nodes_.size() < 2) return;
    queue_.clear();
    for (std::size_t i = 0; i + 1 < nodes_.size(); ++i)
      if (const auto candidate = propose(static_cast<std::int32_t>(i), find); candidate.token >= 0)
        queue_.push_back(candidate);
    std::make_heap(queue_.begin(), queue_.end());

    while (!queue_.empty()) {
      const Candidate best = queue_.front();
      std::pop_heap(queue_.begin(), queue_.end());
      queue_.pop_back();
      const auto left = static_cast<std::int32_t>(best.order & 0xFFFFFFFF);
      Node& a = node(left);
      if (a.symbol.size == 0 || a.next == end()) continue;
      Node& b = node(a.next);
      if (a.symbol.size + b.symbol.size != best.size) continue;

      a.symbol.size = best.size;
      a.symbol.token = best.token;
      b.symbol.size = 0;
      a.next = b.next;
      if (a.next != end()) node(a.next).previous = left;
      if (a.previous >= 0) push(propose(a.previous, find));
      if (a.next != end()) push(propose(left, find));
    }
  }

  /// The symbols that are left, in order.
  template <class Visit>
  void for_each(const Visit& visit) const {
    for (std::int32_t i = 0; i < end(); i = nodes_[static_cast<std::size_t>(i)].next)
      visit(nodes_[static_cast<std::size_t>(i)].symbol);
  }

 private:
  struct Node {
    Symbol symbol;
    std::int32_t previous, next;  // -1 before the first; end() after the last
  };
  struct Candidate {
    std::uint64_t order = 0;  // priority, then index of the left symbol
    std::uint32_t size = 0;   // of both symbols
    Token token = -1;
    bool operator<(const Candidate& other) const { return order > other.order; }  // lowest on top
  };

  Node& node(std::int32_t i) { return nodes_[static_cast<std::size_t>(i)]; }
  std::int32_t end() const { return static_cast<std::int32_t>(nodes_.size()); }

  template <class Find>
  Candidate propose(std::int32_t left, const Find& find) {
    const Symbol& a = node(left).symbol;
    const Symbol& b = node(node(left).next).symbol;
    const Merge merge = find(a, b);
    return {std::uint64_t{merge.priority} << 32 | static_cast<std::uint32_t>(left), a.size + b.size,
            merge.token};
  }

  void push(const Candidate& candidate) {
    if (candidate.token < 0) return;
    queue_.push_back(candidate);
    std::push_heap(queue_.begin(), queue_.end());
  }

  std::vector<Node> nodes_;
  std::vector<Candidate> queue_;
};

}  // namespace kquant::tokenizer
