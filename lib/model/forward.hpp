#pragma once
// The forward pass: one for all architectures, with what they differ in taken from Config and from
// which weights are there.
//
//     x = embedding of the tokens                                     M x n_embd
//     each layer:
//       x += post_norm( W_o attention( rope(qk_norm(W_qkv norm(x))), cache ) )
//       x += post_norm( W_down( act(W_gate norm(x)) * (W_up norm(x)) ) )
//     hidden = norm(x)             logits = soft_cap(W_output hidden)

#include <cstddef>
#include <span>
#include <vector>

#include "kquant/base/span2d.hpp"
#include "kquant/matmul.hpp"
#include "kquant/model/transformer.hpp"
#include "model/attention.hpp"
#include "model/backend.hpp"
#include "model/cache_access.hpp"
#include "model/rope.hpp"
#include "model/weights.hpp"

namespace kquant {

class ForwardPass : public Backend {
 public:
  ForwardPass(const Config& config, Weights weights);

  Result<void> check(const KvCache& cache) const override;
  Result<Span2d<const float>> run(std::span<const Piece> pieces) override;
  Result<void> project(Span2d<const float> hidden, Span2d<float> logits) override;

  // The steps of run() one by one, for whoever carries a whole text through a model layer by layer.
  // Every row is computed; the caches do not advance, so that all pieces are beginnings.

  /// x = embedding of the tokens.
  void start(std::span<const Piece> pieces, Span2d<float> x);
  /// x: the states before layer `index`, then those after it.
  void run_layer(std::size_t index, std::span<const Piece> pieces, Span2d<float> x);
  /// hidden = final norm of x.
  void finish(Span2d<const float> x, Span2d<float> hidden) const;
  Weights& weights() { return weights_; }

 private:
  void done(Stage stage) const {
    if (profiler) profiler(stage);
  }
  struct Row {
    std::size_t piece, position;
  };
  void place(std::span<const Piece> pieces);
  void reserve(std::size_t tokens);
  void embed(std::span<const Piece> pieces, Span2d<float> x);
  void apply(const Projection& projection, Span2d<const float> x, Span2d<float> y);
  Span2d<float> add_attention(std::size_t index, std::span<const Piece> pieces, Span2d<float> x,
                              bool only_outputs);
  void add_mlp(const LayerWeights& layer, Span2d<float> x);
  void rotate_and_store(std::size_t index, std::span<const Piece> pieces, Span2d<float> qkv);
  void list_queries(std::span<const Piece> pieces, bool only_outputs, Span2d<float> qkv,
                    Span2d<float> out);
  static Span2d<float> keep_outputs(std::span<const Piece> pieces, Span2d<float> x);
  RopeTable& table_of(const KvCache& cache, bool local);
  /// out = norm(x), row by row.
  void norm(Span2d<const float> x, std::span<const float> weight, Span2d<float> out) const;
  /// x += y, or norm(y) where there is a post-norm.
  void add_residual(Span2d<float> y, std::span<const float> post_norm, Span2d<float> x) const;

  Config config_;
  Weights weights_;
  std::size_t n_embd_, n_ff_, n_heads_, n_kv_heads_, dim_k_, dim_v_;
  RopeTable rope_, rope_long_, rope_local_;

  // Scratch, grown to the largest chunk seen: no allocation from the second decoding step on.
  Attention attention_;
  MatmulWorkspace workspace_;
  std::vector<Row> rows_;
  std::vector<Attention::Queries> queries_;
  std::vector<float> x_, normed_, qkv_, heads_, branch_, gate_up_;
};

}  // namespace kquant
