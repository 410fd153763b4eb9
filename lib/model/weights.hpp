#pragma once
// The tensors of a model, found by name and checked against the hyper-parameters.

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "kquant/gguf.hpp"
#include "kquant/matmul.hpp"
#include "kquant/model/config.hpp"

namespace kquant {

/// One or more matrices that meet the same input; their outputs lie side by side, as if they were
/// one. So Q, K and V are the same to a reader whether a file has them fused or not.
struct Projection {
  std::vector<std::string> names;
  std::vector<MatrixView> matrices;
  std::vector<float> bias;  ///< of all outputs; empty: none
  std::size_t outputs() const;
};

struct LayerWeights {
  std::vector<float> attn_norm, ffn_norm;
  std::vector<float> q_norm, k_norm, attn_post_norm, ffn_post_norm;  ///< empty: none
  Projection qkv;                                                    ///< Q heads, K heads, V heads
  Projection attn_output;
  Projection gate_up;  ///< gate, then up
  Projection down;

  static constexpr std::size_t kProjections = 4;
  /// All of them, in the order in which a token meets them.
  std::array<Projection*, kProjections> projections() {
    return {&qkv, &attn_output, &gate_up, &down};
  }
  std::array<const Projection*, kProjections> projections() const {
    return {&qkv, &attn_output, &gate_up, &down};
  }
};

struct Weights {
  Projection embedding;  ///< one matrix, vocab_size x n_embd
  Projection output;     ///< the same where the file has no output.weight
  std::vector<float> output_norm;
  std::vector<float> rope_freqs, rope_factors_long, rope_factors_short;  ///< empty: none
  std::vector<LayerWeights> layers;
  std::vector<PackedMatrix> packed;   ///< what views of packed matrices above look at
  std::shared_ptr<std::byte> floats;  ///< what views of dequantized matrices above look at
};

/// Views into `file`, which must outlive them. Errors: kBadFile (a tensor missing or of the wrong
/// shape), kUnsupported (a type that cannot be computed with, a tensor the architecture has not).
Result<Weights> read_weights(const gguf::File& file, const Config& config);

/// Copies every matrix that can be packed, but for the embedding, whose rows are looked up; the
/// pages of the originals are released one by one. Errors: kOutOfMemory.
Result<void> pack_weights(const gguf::File& file, Weights& weights);

/// Puts F32 copies in the place of the same matrices, which then meet float activations; the pages
/// of the originals are released one by one. All copies are one piece of memory, so that a system
/// that has not enough says so before any is made. Errors: kOutOfMemory (says how much was needed).
Result<void> dequantize_weights(const gguf::File& file, Weights& weights);

}  // namespace kquant
