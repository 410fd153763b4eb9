#pragma once
// The tensors of a file, as quantize_model() and whoever plans for it see them.

#include <string>
#include <vector>

#include "kquant/gguf.hpp"
#include "kquant/imatrix.hpp"
#include "kquant/quantize.hpp"
#include "kquant/recipe.hpp"

namespace kquant::detail {

/// "model.gguf: tensor 'NAME'"
std::string at_tensor(const gguf::File& file, std::string_view tensor);

/// How many matrices a tensor holds: one, or one an expert.
std::size_t matrices_of(const gguf::Tensor& tensor);

/// All tensors, each to stay what it is.
std::vector<PlannedTensor> planned_tensors(const gguf::File& in);

/// Importance of every column, one row a matrix (of an expert tensor); empty without an entry.
Result<std::vector<float>> importance_of(const gguf::File& in, const gguf::Tensor& tensor,
                                         const Imatrix* imatrix);

/// Whether it matters that what a matrix computes comes out too small (QuantizeOptions::unbiased):
/// not where a norm makes up for it before anything else, as Gemma's norms after attention and
/// feed-forward part do, and norms of queries and keys.
bool length_matters(const gguf::File& in, std::string_view tensor);

/// The error that a tensor would have in another type, at effort fast; memory: a few panels of
/// rows.
Result<QuantizationError> error_as(const gguf::File& in, const gguf::Tensor& tensor,
                                   TensorType type, std::span<const float> importance, int threads);

}  // namespace kquant::detail
