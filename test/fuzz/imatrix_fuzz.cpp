// Any bytes, as either of the two imatrix formats.

#include <cmath>

#include "fuzz/fuzz.hpp"
#include "kquant/imatrix.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kquant;
  const auto imatrix = Imatrix::parse(fuzz::as_bytes(data, size), "fuzz");
  if (!imatrix) {
    fuzz::check(imatrix.error());
    return 0;
  }
  for (const auto& [name, entry] : imatrix->entries()) {
    const auto importance = imatrix->importance(name);
    if (!importance) {
      fuzz::check(importance.error());
      continue;
    }
    fuzz::require(importance->size() == entry.sums.size(), "one importance a sum");
    for (const float x : *importance)
      fuzz::require(std::isfinite(x) && x >= 0, "importance is finite and not negative");
  }
  return 0;
}
