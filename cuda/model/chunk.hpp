#pragma once
// What a device must know of a chunk of tokens before it is run: which row is where in which
// sequence, which rows are wanted, which blocks attention has, rotations up to the last position.

#include <tuple>

#include "cuda/model/plan.hpp"
#include "cuda/model/rope_table.hpp"
#include "cuda/model/share.hpp"

namespace kquant::cuda {

/// Grows a buffer whose contents need not be kept. True where it moved.
Result<bool> grow(const std::shared_ptr<Queue>& queue, Buffer& buffer, std::size_t bytes,
                  std::string_view what);

/// Consecutive tokens of one sequence.
struct ChunkPiece {
  std::span<const std::int32_t> tokens;
  std::byte* cache;     ///< on this device
  int capacity;         ///< of the cache
  int position;         ///< of the first token
  std::size_t outputs;  ///< last tokens whose hidden states are wanted
};

class DeviceChunk {
 public:
  DeviceChunk(const Config& config, const Weights& weights);

  /// Lays the pieces out and copies that to the device. True where something moved: recorded
  /// launches have the old addresses.
  Result<bool> place(const std::shared_ptr<Queue>& queue, const Share& share,
                     std::span<const ChunkPiece> pieces, bool q8);

  /// What launches depend on: rows, outputs, attention to all keys and to those within a window,
  /// type of cache.
  using Shape = std::tuple<int, int, AttentionGrid, AttentionGrid, bool>;
  Shape shape() const;

  int rows() const { return rows_; }
  int outputs() const { return outputs_; }
  const KvLayout& kv() const { return kv_; }
  const RowPlace* places() const { return places_.as<RowPlace>(); }
  const int* output_rows() const { return output_rows_.as<int>(); }
  float* parts() const { return parts_.as<float>(); }

  /// Of layers that see all keys, or only those within a window.
  struct Attention {
    AttentionPlan plan;
    Buffer tiles, merges;
  };
  const Attention& attention(bool local) const { return local ? local_ : global_; }
  /// Rotations: of a cache that uses the short factors, and the long ones.
  struct Rope {
    const float* table[2];
    int pairs;
  };
  Rope rope(bool local) const {
    if (local) return {{rope_local_.data(), rope_local_.data()}, rope_local_.pairs()};
    return {{rope_.data(), rope_long_.data()}, rope_.pairs()};
  }

 private:
  void lay_out(const Share& share, std::span<const ChunkPiece> pieces, int blocks);

  int rows_ = 0, outputs_ = 0;
  KvLayout kv_;
  Attention global_, local_;
  DeviceRope rope_, rope_long_, rope_local_;
  // On the CPU: copies to the device may still read them when place() returns.
  std::vector<RowPlace> places_on_host_;
  std::vector<int> output_rows_on_host_;
  std::vector<PlannedPiece> planned_;
  Buffer places_, output_rows_, parts_;
};

/// How keys and values of a share's heads lie.
KvLayout kv_layout(const Config& config, bool q8);

}  // namespace kquant::cuda
