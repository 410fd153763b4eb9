#pragma once
// The Backend of a Transformer on one device, or divided among several: caches, recorded steps,
// and one thread a device, which runs its DevicePass.
//
// A call has phases. Each device first lays out the chunk, which may fail for want of memory; only
// when all have done so do they begin what waits for the others.
//
// Decoding is one launch a device: a step whose pieces are all one token is recorded the second
// time its shape is met (rows, tiles of attention), when all kernels have been loaded, and replayed
// from then on; what differs from step to step is in device memory. All devices record, or none.

#include <map>

#include "cuda/model/kv_storage.hpp"
#include "cuda/model/pass.hpp"
#include "cuda/model/workers.hpp"

namespace kquant::cuda {

class DeviceBackend : public Backend {
 public:
  /// Errors: those of divide() and of DevicePass.
  static Result<std::unique_ptr<Backend>> load(std::span<const Rank> ranks, const Config& config,
                                               const Weights& weights);

  Result<void> check(const KvCache& cache) const override;
  Result<Span2d<const float>> run(std::span<const Piece> pieces) override;
  Result<void> project(Span2d<const float> hidden, Span2d<float> logits) override;
  Result<void> run_to_logits(std::span<const Piece> pieces, Span2d<float> logits) override;

 private:
  explicit DeviceBackend(std::vector<std::unique_ptr<DevicePass>> passes);

  std::vector<KvPlace> kv_places(KvType type) const;
  /// Device memory for caches that have none yet.
  Result<void> make_room(std::span<const Piece> pieces);
  Result<void> place(std::span<const Piece> pieces);
  /// Runs the chunk and copies what it gives to the CPU: hidden states, or `logits` rows.
  Result<void> compute(std::span<const Piece> pieces, std::size_t logits);
  /// fn() of every device's pass at once, all or none of which reach the end.
  Result<void> together(const std::function<Result<void>(std::size_t)>& fn);
  /// Rows that all devices have fetched, joined.
  void copy_logits(Span2d<float> to, std::size_t first, std::size_t rows) const;

  std::vector<std::unique_ptr<DevicePass>> passes_;
  Workers workers_;

  using Recordings = std::vector<std::unique_ptr<Recording>>;  ///< one a device
  /// What is to be replayed for the chunk that was placed; null: it is to be run.
  Result<const Recordings*> recordings_for(bool to_logits);
  /// Of all devices, and whether to logits. Empty until the shape is met again.
  using Shape = std::pair<std::vector<DeviceChunk::Shape>, bool>;
  std::map<Shape, Recordings> recordings_;
};

}  // namespace kquant::cuda
