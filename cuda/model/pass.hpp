#pragma once
// The forward pass on a device: the same as lib/model/forward.hpp, of a Share of the same Config
// and Weights.
//
//     x = embedding [sum]                                              binary32, rows x n_embd
//     each layer, as launches:
//       norm (with the residual sum before it, where there is a branch)     -> binary16
//       Q K V                           one launch a type
//       norms of heads, rotation, K and V to the cache
//       attention [merge]                                                   -> binary16
//       output [+ bias] [sum]
//       norm, gate and up, activation, down [sum]: likewise
//     norm of the wanted rows, output matrix, soft cap
//
// [sum]: over all devices, where the model is divided. Results of the output and down matrices are
// a branch that the next norm adds to x, or are added to x as they leave, where there is neither a
// post-norm nor a sum.

#include "cuda/model/chunk.hpp"
#include "cuda/model/weights.hpp"
#include "cuda/rows.cuh"
#include "cuda/runtime/communicator.hpp"
#include "model/backend.hpp"

namespace kquant::cuda {

/// A device, and what it says to the others; null: it is alone.
struct Rank {
  std::shared_ptr<Queue> queue;
  std::shared_ptr<Communicator> communicator;
};

/// One device's part of a forward pass. Nothing waits but where said: finish().
class DevicePass {
 public:
  /// Rows of logits that there is memory for.
  static constexpr std::size_t kLogitRows = 64;

  /// Has its scratch memory. Errors: kOutOfMemory (how much the weights need, how much is free),
  /// kUnsupported.
  static Result<std::unique_ptr<DevicePass>> make(Rank rank, Share share, const Weights& weights);
  ~DevicePass();
  /// Copies the share of the weights to the device; once, before everything below.
  Result<void> upload(const Weights& weights);

  const std::shared_ptr<Queue>& queue() const { return rank_.queue; }
  const Share& share() const { return share_; }
  const DeviceChunk& chunk() const { return chunk_; }

  /// What DeviceChunk::place says.
  Result<bool> place(std::span<const ChunkPiece> pieces, bool q8);
  /// Runs the chunk up to the final norm of the wanted rows, or to their logits.
  void run(bool to_logits);
  Result<std::unique_ptr<Recording>> record(bool to_logits);
  /// Logits of `rows` hidden states (of n_embd), at most kLogitRows.
  void project(Span2d<const float> hidden);

  /// Copy results, which are there after finish().
  void fetch_hidden();
  void fetch_logits(std::size_t rows);
  std::span<const float> hidden() const { return hidden_on_host_; }
  const float* logits() const { return pinned_; }  ///< rows of the share's vocabulary
  Result<void> finish();
  /// Ends the other ranks' waiting for this one: nothing more can be computed.
  void abort();

 private:
  DevicePass(Rank rank, Share share, const Weights& weights);
  Result<void> reserve();
  /// What is said where the weights do not fit into the `left` bytes that are free.
  Error no_room(std::size_t left) const;
  void enqueue_attention(std::size_t index);
  /// `post_norm`: of the branch before it, null where there is none.
  Norm norm(const DeviceVector* post_norm, const DeviceVector& weight, int rows) const;
  void enqueue_norm(const Norm& norm, int rows);
  void enqueue_branch(const DeviceProjection& projection, const HalfRows& x,
                      const DeviceVector& post_norm);
  void enqueue_logits(int rows);
  void multiply_all(const DeviceProjection& projection, const HalfRows& x, int rows,
                    const Destination& to);
  /// Whether results of output and down go straight to x.
  bool is_straight(const DeviceVector& post_norm) const;
  void sum(float* x, int rows);
  /// The buffer's memory for so many rows, in the order that products want.
  HalfRows for_rows(const HalfRowsBuffer& buffer, int rows) const;

  Rank rank_;
  Share share_;
  DeviceWeights weights_;
  DeviceChunk chunk_;
  ProductScratch product_scratch_;

  // Scratch for Backend::kChunk rows.
  Buffer x_, branch_, qkv_, q_, gate_up_, hidden_, logits_;
  HalfRowsBuffer normed_, heads_, gated_;
  RowOrder heads_order_ = RowOrder::kRows;  ///< of what heads_ has now
  std::vector<float> hidden_on_host_;
  float* pinned_ = nullptr;  ///< kLogitRows of logits
};

}  // namespace kquant::cuda
