#pragma once
// Where a forward pass is computed: on the CPU (forward.hpp), or on an accelerator.

#include <cstddef>
#include <span>

#include "kquant/base/error.hpp"
#include "kquant/base/span2d.hpp"
#include "kquant/model/transformer.hpp"

namespace kquant {

/// Consecutive tokens of one sequence: some rows of a chunk.
struct Piece {
  std::span<const Token> tokens;
  KvCache* cache;       ///< to be appended to; no two pieces have the same
  std::size_t outputs;  ///< last tokens whose hidden states are wanted
};

class Backend {
 public:
  virtual ~Backend() = default;

  /// Long prompts and large batches go through in chunks of this many tokens, which bounds the
  /// scratch memory.
  static constexpr std::size_t kChunk = 512;

  /// Errors: kInvalidArgument (what the cache holds lies elsewhere), kUnsupported (its type).
  virtual Result<void> check(const KvCache& cache) const = 0;

  /// Runs a chunk, at most kChunk tokens in all, and appends each piece to its cache. Result: the
  /// final norm of the wanted rows of each piece, one after the other, valid until the next call.
  /// Preconditions: check()ed caches that fit and have room, token ids within the vocabulary.
  virtual Result<Span2d<const float>> run(std::span<const Piece> pieces) = 0;

  /// logits = soft_cap(W_output hidden), M x vocab_size.
  virtual Result<void> project(Span2d<const float> hidden, Span2d<float> logits) = 0;

  /// run() and project() in one.
  virtual Result<void> run_to_logits(std::span<const Piece> pieces, Span2d<float> logits) {
    const auto hidden = run(pieces);
    if (!hidden) return fail(hidden.error());
    return hidden->rows > 0 ? project(*hidden, logits) : Result<void>();
  }

  /// Only the CPU calls them.
  Transformer::Observer observer;
  Transformer::Profiler profiler;
};

}  // namespace kquant
