#pragma once
// Which rows of a matrix are whose. A thread packs the rows that it later multiplies: the first to
// write a page of memory decides near which processor it lies.

#include <algorithm>
#include <cstddef>
#include <utility>

namespace kquant {

/// Part `i` of `n` of [0, count), in multiples of `unit`.
inline std::pair<std::size_t, std::size_t> part(std::size_t count, std::size_t i, std::size_t n,
                                                std::size_t unit) {
  const std::size_t units = (count + unit - 1) / unit;
  return {std::min(count, units * i / n * unit), std::min(count, units * (i + 1) / n * unit)};
}

}  // namespace kquant
