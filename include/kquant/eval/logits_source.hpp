#pragma once
// What the evaluation sees of a model: sequences in numbered slots that are continued side by side.

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/base/span2d.hpp"
#include "kquant/model/transformer.hpp"

namespace kquant {

class LogitsSource {
 public:
  /// Tokens that continue a slot's sequence.
  struct Step {
    std::size_t slot = 0;
    std::span<const Token> tokens;
    std::size_t outputs = 1;  ///< of how many of the last tokens logits are wanted
  };

  virtual ~LogitsSource() = default;
  virtual std::size_t vocab_size() const = 0;
  /// Tokens a sequence may have.
  virtual std::size_t context() const = 0;

  /// Makes `count` empty slots with room for `capacity` tokens each, in place of those before.
  virtual Result<void> make_slots(std::size_t count, std::size_t capacity) = 0;
  /// Logits row after row: the outputs of the first step, of the second, … No two steps of one
  /// slot.
  virtual Result<void> run(std::span<const Step> steps, Span2d<float> logits) = 0;
  /// Keeps the first `size` tokens of a slot.
  virtual void truncate(std::size_t slot, std::size_t size) = 0;
  /// `to` becomes the first `size` tokens of `from`.
  virtual Result<void> copy_prefix(std::size_t to, std::size_t from, std::size_t size) = 0;
};

/// Of a transformer, which must outlive it; `context` 0: as long as the model was trained for.
std::unique_ptr<LogitsSource> make_logits_source(Transformer& model, std::size_t context = 0);

}  // namespace kquant
