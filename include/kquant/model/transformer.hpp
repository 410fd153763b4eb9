#pragma once
// A decoder-only transformer over packed weights.
//
//     auto model = Transformer::load("model.gguf");
//     KvCache cache(model->config(), 512);
//     std::vector<float> logits(vocab_size);
//     model->forward(tokens, cache, {logits.data(), 1, logits.size()});  // of the last token

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
#include "kquant/matmul.hpp"
#include "kquant/model/accelerator.hpp"
#include "kquant/model/config.hpp"
#include "kquant/model/kv_cache.hpp"
#include "kquant/model/tokenizer.hpp"

namespace kquant {

/// What activations are when they meet weights in a block format on the CPU. An accelerator has its
/// own products, which never round to int8.
enum class ActivationPrecision : std::uint8_t {
  kInt8,  ///< rounded, with a scale for each block of weights: the fastest kernels (matmul.hpp)
  kFloat  ///< binary32. Weights are dequantized to F32 while the model is loaded: 4 bytes a weight
};

struct LoadOptions {
  /// kPacked: matrices in block formats are copied into the layout of the fastest kernels while the
  /// model is loaded. kRows: they are used where they lie, in the mapped file: it loads at once,
  /// shares memory with other processes, and runs slower.
  Layout weights = Layout::kPacked;
  /// Runs the model in place of the CPU, and has a copy of the weights; the other options then have
  /// no meaning.
  std::shared_ptr<Accelerator> accelerator = nullptr;
  /// kFloat is slower, and what an accelerator's results compare with. It makes F32 matrices of
  /// those that kPacked would pack, so it does not go with kRows.
  ActivationPrecision activations = ActivationPrecision::kInt8;
};

/// Tokens that continue one sequence of a batch.
struct Sequence {
  std::span<const Token> tokens;
  KvCache* cache = nullptr;  ///< of the tokens before them; they are appended
  std::size_t outputs = 1;   ///< how many of the last tokens are answered; may be 0
};

/// What a forward pass consists of, in this order within a layer.
enum class Stage {
  kEmbedding,
  kNorm,
  kQkv,
  kRope,  ///< rotation of Q and K, storing K and V
  kAttention,
  kAttentionOutput,
  kGateUp,
  kActivation,
  kDown,
  kResidual,
  kLogits
};
inline constexpr int kStages = 11;
std::string_view name(Stage stage);

/// A loaded model: hyper-parameters, its weights, and its tokenizer.
class Transformer {
 public:
  /// Errors: kIo, kBadFile (a tensor missing or of the wrong shape: names it), kUnsupported
  /// (architecture: lists those that are known), kOutOfMemory (says how much was needed),
  /// kInvalidArgument (options that exclude each other).
  static Result<Transformer> load(const std::filesystem::path& path,
                                  const LoadOptions& options = {});
  /// Of an open file (such as one parsed from bytes in memory).
  static Result<Transformer> load(gguf::File file, const LoadOptions& options = {});

  Transformer(Transformer&&) noexcept;
  Transformer& operator=(Transformer&&) noexcept;
  ~Transformer();

  const Config& config() const;
  const Tokenizer& tokenizer() const;
  const gguf::File& file() const;

  /// Runs `tokens` through the model after what `cache` holds, and appends them to it.
  /// Logits of the last logits.rows tokens are written to logits (logits.cols == vocab_size);
  /// logits.rows may be 0. Prefill in one call or token by token gives the same logits, bit for
  /// bit, for any number of threads (on an accelerator: up to rounding). A call that fails leaves
  /// the cache as it was.
  /// Errors: kOutOfRange (context overflow, token id), kInvalidArgument (no tokens, more rows than
  /// tokens, a cache made for another model, or with tokens that another device computed);
  /// kOutOfMemory and kUnavailable of an accelerator.
  Result<void> forward(std::span<const Token> tokens, KvCache& cache, Span2d<float> logits);

  /// Runs several sequences at once: all their tokens meet each weight together, which makes
  /// decoding n sequences cost much less than n times one. Row after row of `logits`: those of the
  /// last `outputs` tokens of the first sequence, of the second, … Each is the same, bit for bit,
  /// as if its sequence had been run alone. A call that fails leaves all caches as they were.
  /// Errors: as forward, and kInvalidArgument (no sequences, one without a cache, a cache that two
  /// sequences share, rows of logits that are not as many as outputs).
  Result<void> forward_batch(std::span<const Sequence> sequences, Span2d<float> logits);

  /// As forward, but stops before the output matrix: hidden states (final norm applied) of the last
  /// hidden.rows tokens, hidden.cols == n_embd. With project(), logits of many tokens need not be
  /// in memory at once.
  Result<void> hidden_states(std::span<const Token> tokens, KvCache& cache, Span2d<float> hidden);

  /// As forward_batch, with hidden states for logits.
  Result<void> hidden_states_batch(std::span<const Sequence> sequences, Span2d<float> hidden);

  /// Logits (M x vocab_size) of hidden states (M x n_embd). Errors: kInvalidArgument (shapes).
  Result<void> project(Span2d<const float> hidden, Span2d<float> logits);

  /// Called with the name of each weight tensor and the activations it is about to meet (M x K, at
  /// most 512 rows a call; Q, K and V are each called with the one input they share); how an
  /// imatrix is collected. Empty: no calls. Not called by an accelerator.
  using Observer = std::function<void(std::string_view tensor, Span2d<const float> x)>;
  void observe(Observer observer);

  /// Called at the end of each stage, which began when the one before it ended; how time is
  /// measured. Empty: no calls. Not called by an accelerator.
  using Profiler = std::function<void(Stage)>;
  void profile(Profiler profiler);

  struct State;

 private:
  explicit Transformer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kquant
