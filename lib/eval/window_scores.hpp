#pragma once
// Perplexity that goes on where an earlier run was stopped.

#include <cstddef>
#include <functional>
#include <string_view>
#include <vector>

#include "eval/scores.hpp"
#include "kquant/eval/perplexity.hpp"

namespace kquant {

/// The scored positions of one or more windows, in order.
struct WindowScores {
  std::vector<Comparison> scores;
  double seconds = 0;  ///< that the model took
};

/// Called with each new window's scores; an error ends the work.
using OnWindow = std::function<Result<void>(const WindowScores&)>;

/// How many positions of a window of `context` tokens are scored.
inline std::size_t scored_in_window(int context) {
  const auto n = static_cast<std::size_t>(context);
  return n - 1 - n / 2;
}

/// perplexity() of which the first windows are `known` (precondition: whole windows of this text).
Result<PerplexityResult> go_on_with_perplexity(Transformer& model, std::string_view text,
                                               const PerplexityOptions& options,
                                               Transformer* reference, WindowScores known,
                                               const OnWindow& on_window);

}  // namespace kquant
