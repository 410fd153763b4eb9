#pragma once
// How a model is divided among devices (tensor parallelism). Each has some KV heads with their
// query heads, some of the MLP's width, some of the vocabulary, of every layer:
//
//     embedding, output   rows of W, in units of 16                    logits of these tokens
//     Q K V, gate up      rows of W                                    these heads, this width
//     output, down        the columns that meet them, whole blocks     a part of each sum
//
// so that a layer has two sums over all devices, of the attention's output and of the MLP's, and
// the embedding one: a row is on one device, the others add zeros. Ranges may differ by a unit.

#include <vector>

#include "cuda/pack.hpp"
#include "model/weights.hpp"

namespace kquant::cuda {

/// A count as a size.
inline std::size_t size(int n) {
  return static_cast<std::size_t>(n);
}

struct Range {
  std::size_t begin = 0, end = 0;
  std::size_t size() const { return end - begin; }
};

/// What a device has of a projection: views into the file.
struct ProjectionShare {
  std::vector<MatrixSlice> matrices;
  std::vector<float> bias;  ///< empty: none
  std::size_t outputs() const;
};

struct LayerShare {
  ProjectionShare qkv, attn_output, gate_up, down;
};

struct Share {
  int rank = 0, ranks = 1;
  /// The model's, but for heads, n_ff and vocab_size, which are those of this share.
  Config config;
  Range kv_heads, ff, vocabulary;
  ProjectionShare embedding;
  ProjectionShare separate_output;  ///< no matrices where the embedding is the output matrix
  std::vector<LayerShare> layers;

  /// Bytes of device memory that its matrices take.
  std::size_t device_bytes() const;
};

/// Shares of `ranks` devices; of one, all there is. Errors: kUnsupported (there are not as many
/// heads, or blocks of the width: says how many devices would do).
Result<std::vector<Share>> divide(const Config& config, const Weights& weights, int ranks);

}  // namespace kquant::cuda
