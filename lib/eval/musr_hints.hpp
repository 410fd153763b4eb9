#pragma once
// What the mode cot+ of MuSR adds: how to think about a domain, and one solved example. The wording
// and the stories are ours; the paper's are another experiment's.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kquant {

struct MusrItem {
  std::string id, context, question, domain;
  std::vector<std::string> choices;
  std::size_t answer = 0;
  std::string worked;  ///< of an example: a solution that ends in "ANSWER: N"
};

/// By their category in reports; "other" has neither.
std::string_view musr_hint(std::string_view domain);
/// Null where there is none.
const MusrItem* musr_example(std::string_view domain);

}  // namespace kquant
