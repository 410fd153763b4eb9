#pragma once
// Finds things by name, and finds duplicate names, in O(log n) each, whatever the names: a list of
// (hash, number) sorted by hash and, where hashes collide, by name. So a file with a million keys
// chosen to collide costs no more than any other, and an entry costs 8 bytes.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace kquant::gguf {

class NameIndex {
 public:
  /// Indexes name_of(0) … name_of(count - 1), count < 2^32. Returns a number whose name an earlier
  /// number also has, if any.
  template <class NameOf>
  std::optional<std::uint32_t> build(std::size_t count, const NameOf& name_of) {
    entries_.resize(count);
    for (std::uint32_t i = 0; i < count; ++i) entries_[i] = {hash(name_of(i)), i};
    std::sort(entries_.begin(), entries_.end(), [&](const Entry& a, const Entry& b) {
      if (a.hash != b.hash) return a.hash < b.hash;
      const int order = a.number == b.number ? 0 : name_of(a.number).compare(name_of(b.number));
      return order != 0 ? order < 0 : a.number < b.number;
    });
    const auto same =
        std::adjacent_find(entries_.begin(), entries_.end(), [&](const Entry& a, const Entry& b) {
          return a.hash == b.hash && name_of(a.number) == name_of(b.number);
        });
    if (same == entries_.end()) return std::nullopt;
    return std::next(same)->number;
  }

  /// The number with this name. `name_of` as given to build().
  template <class NameOf>
  std::optional<std::uint32_t> find(std::string_view name, const NameOf& name_of) const {
    const std::uint32_t wanted = hash(name);
    const auto found = std::partition_point(entries_.begin(), entries_.end(), [&](const Entry& e) {
      return e.hash != wanted ? e.hash < wanted : name_of(e.number) < name;
    });
    if (found == entries_.end() || found->hash != wanted || name_of(found->number) != name)
      return std::nullopt;
    return found->number;
  }

 private:
  struct Entry {
    std::uint32_t hash, number;
  };
  static std::uint32_t hash(std::string_view name) {
    return static_cast<std::uint32_t>(std::hash<std::string_view>{}(name));
  }
  std::vector<Entry> entries_;
};

}  // namespace kquant::gguf
