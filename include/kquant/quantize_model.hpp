#pragma once
// A whole GGUF model to a recipe.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kquant/gguf.hpp"
#include "kquant/imatrix.hpp"
#include "kquant/quantize.hpp"
#include "kquant/recipe.hpp"

namespace kquant {

/// QuantizeOptions::importance_floor of whole models, by their divergence (docs/quantizer.md).
inline constexpr float kModelImportanceFloor = 0.05f;

struct QuantizeModelOptions {
  PlanOptions plan = {};
  const Imatrix* imatrix = nullptr;
  /// Unset: best up to two billion weights, fast beyond.
  std::optional<Effort> effort = {};
  float importance_floor = kModelImportanceFloor;  ///< see QuantizeOptions
  /// See QuantizeOptions. Tensors whose products a norm evens out keep the least error all the
  /// same.
  bool unbiased = true;
  int threads = 0;
  bool dry_run = false;  ///< plan and sizes only: nothing is read, quantized or written
  bool allow_requantize =
      true;  ///< accept tensors that are already quantized (their values are what counts)
  /// What packs rows: quantize(), or what gives the same on a GPU (cuda::quantize). Asked for a few
  /// million weights at a time.
  std::function<Result<void>(TensorType type, Span2d<const float> in, std::span<std::byte> out,
                             const QuantizeOptions& options)>
      quantizer = quantize;
  /// Where set: asked for each tensor to be quantized, in file order. Bytes are written as they
  /// are; where it gives none, the tensor takes the ordinary path.
  std::function<Result<std::vector<std::byte>>(const PlannedTensor& tensor)> encoder = {};
  /// Called after each tensor, from the calling thread; return false to stop (the output is
  /// discarded).
  std::function<bool(std::size_t done, std::size_t total, const std::string& tensor)> progress = {};
};

struct TensorReport {
  PlannedTensor plan;
  std::uint64_t bytes_before = 0, bytes_after = 0;
  bool weighted = false;                   ///< the imatrix has an entry for it
  std::optional<QuantizationError> error;  ///< of tensors whose type changed, against their source
};

struct QuantizeReport {
  std::vector<TensorReport> tensors;
  std::uint64_t file_bytes_before = 0, file_bytes_after = 0;  ///< after: 0 in a dry run
  double bits_per_weight_before = 0, bits_per_weight_after = 0;
  Effort effort = Effort::kBest;                    ///< that was, or would be, made
  std::vector<std::string> unused_imatrix_entries;  ///< that name no tensor of the model
};

/// Quantizes `in` into a new file `out`, written atomically; a split model becomes one file, and
/// `out` may be the input itself. Memory: a few panels of rows, whatever the model. Metadata is
/// preserved; general.file_type, general.quantization_version and quantize.imatrix.* are set. The
/// bytes do not depend on the number of threads.
/// Errors: kInvalidArgument (the recipe needs an imatrix, an imatrix entry of the wrong length or
/// an imatrix of another model, a tensor type that cannot be read, "interrupted"), kBadFile (no
/// architecture), kBadData (tensor, row and column of a NaN or Inf), kIo.
Result<QuantizeReport> quantize_model(const gguf::File& in, const std::filesystem::path& out,
                                      const Recipe& recipe,
                                      const QuantizeModelOptions& options = {});

/// Shape facts for recipes, from a model's metadata. Errors: kNotFound, kBadFile, as the getters
/// of gguf::File.
Result<ModelShape> model_shape(const gguf::File& file);

}  // namespace kquant
