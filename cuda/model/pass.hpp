#pragma once
// The forward pass on a device: the same as lib/model/forward.hpp, of the same Config and Weights.
//
//     x = embedding                                                    binary32, rows x n_embd
//     each layer, as launches:
//       norm (with the residual sum before it, where there is a post-norm)  -> binary16
//       Q K V                           one launch a type
//       norms of heads, rotation, K and V to the cache
//       attention [merge]                                                   -> binary16
//       output [+ bias], added to x where there is no post-norm
//       norm, gate and up, activation, down: likewise
//     norm of the wanted rows, output matrix, soft cap
//
// Decoding is one launch: a step whose pieces are all one token is recorded the second time its
// shape is met (rows, tiles of attention), when all kernels have been loaded, and replayed from
// then on; what differs from step to step is in device memory.

#include <map>
#include <tuple>

#include "cuda/model/kv_storage.hpp"
#include "cuda/model/plan.hpp"
#include "cuda/model/rope_table.hpp"
#include "cuda/model/weights.hpp"
#include "model/backend.hpp"

namespace kquant::cuda {

/// Grows a buffer whose contents need not be kept. True where it moved.
Result<bool> grow(const std::shared_ptr<Queue>& queue, Buffer& buffer, std::size_t bytes,
                  std::string_view what);

class DevicePass : public Backend {
 public:
  static Result<std::unique_ptr<Backend>> load(const std::shared_ptr<Queue>& queue,
                                               const Config& config, const Weights& weights);
  ~DevicePass() override;

  Result<void> check(const KvCache& cache) const override;
  Result<Span2d<const float>> run(std::span<const Piece> pieces) override;
  Result<void> project(Span2d<const float> hidden, Span2d<float> logits) override;
  Result<void> run_to_logits(std::span<const Piece> pieces, Span2d<float> logits) override;

 private:
  /// Rows of logits that there is memory for.
  static constexpr std::size_t kLogitRows = 64;

  DevicePass(std::shared_ptr<Queue> queue, const Config& config, const Weights& weights);
  Result<void> reserve();
  KvLayout kv_layout(KvType type) const;
  Result<void> make_room(std::span<const Piece> pieces);
  /// Lays out a chunk's rows and attention, and copies them to the device.
  Result<void> place(std::span<const Piece> pieces);
  Result<void> enqueue(std::span<const Piece> pieces, bool to_logits);
  void enqueue_layers(bool to_logits);
  void enqueue_attention(std::size_t index);
  void enqueue_norm(const float* branch, const DeviceVector& post_norm, const DeviceVector& weight);
  void enqueue_logits(int rows);
  void multiply_all(const DeviceProjection& projection, const HalfRows& x, int rows,
                    const Destination& to);
  Launch rows_launch(int rows) const;
  /// The buffer's memory for so many rows, in the order that products want.
  HalfRows for_rows(const HalfRowsBuffer& buffer, int rows) const;

  std::shared_ptr<Queue> queue_;
  Config config_;
  DeviceWeights weights_;
  DeviceRope rope_, rope_long_, rope_local_;
  ProductScratch product_scratch_;

  // Of a chunk.
  int rows_ = 0, outputs_ = 0;
  KvLayout kv_;
  AttentionPlan global_, local_;
  std::vector<RowPlace> places_on_host_;
  std::vector<int> output_rows_on_host_;
  std::vector<PlannedPiece> planned_;
  Buffer places_, output_rows_, global_tiles_, global_merges_, local_tiles_, local_merges_, parts_;

  // Scratch for kChunk rows.
  Buffer x_, branch_, qkv_, q_, gate_up_, hidden_, logits_;
  HalfRowsBuffer normed_, heads_, gated_;
  RowOrder heads_order_ = RowOrder::kRows;  ///< of what heads_ has now
  std::vector<float> hidden_on_host_;
  float* pinned_ = nullptr;  ///< kLogitRows of logits

  /// rows, outputs, parts, tiles with global keys, with local ones, to logits, type of cache
  using Shape = std::tuple<int, int, int, std::size_t, std::size_t, bool, bool>;
  std::map<Shape, std::unique_ptr<Recording>> recordings_;
};

}  // namespace kquant::cuda
