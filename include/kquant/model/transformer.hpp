#pragma once
// A decoder-only transformer over packed weights.
//
//     auto model = Transformer::load("model.gguf");
//     KvCache cache(model->config(), 512);
//     model->forward(tokens, cache, {.logits = Logits::kLast}, out);

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "kquant/base/error.hpp"
#include "kquant/base/span2d.hpp"
#include "kquant/gguf.hpp"
#include "kquant/model/config.hpp"
#include "kquant/model/kv_cache.hpp"
#include "kquant/model/tokenizer.hpp"

namespace kquant {

/// A loaded model: hyper-parameters, views of its weights in the mapped file, and its tokenizer.
class Transformer {
 public:
  /// Errors: kIo, kBadFile (a tensor missing or of the wrong shape: names it), kUnsupported
  /// (architecture: lists those that are known).
  static Result<Transformer> load(const std::filesystem::path& path);

  Transformer(Transformer&&) noexcept;
  Transformer& operator=(Transformer&&) noexcept;
  ~Transformer();

  const Config& config() const;
  const Tokenizer& tokenizer() const;
  const gguf::File& file() const;

  /// Runs `tokens` through the model after what `cache` holds, and appends them to it.
  /// Logits of the last logits.rows tokens are written to logits (logits.cols == vocab_size);
  /// logits.rows may be 0. Prefill in one call or token by token gives the same logits.
  /// Errors: kOutOfRange (context overflow, token id), kInvalidArgument (no tokens).
  Result<void> forward(std::span<const Token> tokens, KvCache& cache, Span2d<float> logits);

  /// Called with the name of each weight tensor and the activations it is about to meet (M x K);
  /// how an imatrix is collected. Empty: no calls.
  using Observer = std::function<void(std::string_view tensor, Span2d<const float> x)>;
  void observe(Observer observer);

  struct State;

 private:
  explicit Transformer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kquant
