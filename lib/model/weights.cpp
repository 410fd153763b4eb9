#include "model/weights.hpp"

#include <fmt/format.h>
#include <omp.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <set>
#include <string_view>

#include "base/huge_pages.hpp"
#include "kernels/table.hpp"
#include "kquant/base/checked.hpp"
#include "matmul/partition.hpp"
#include "model/arch/architecture.hpp"

namespace kquant {

std::size_t Projection::outputs() const {
  std::size_t sum = 0;
  for (const MatrixView& matrix : matrices) sum += matrix.rows;
  return sum;
}

namespace {

enum class Presence { kRequired, kOptional };

struct Part {
  std::string_view name;  ///< without ".weight"
  std::size_t outputs;
};

/// Takes tensors out of a file one by one. The first error is kept, so that the list of a model's
/// tensors reads as a list.
class Reader {
 public:
  explicit Reader(const gguf::File& file) : file_(file) {}
  const std::optional<Error>& error() const { return error_; }

  /// A norm, bias or factor as floats; empty where it is optional and missing.
  std::vector<float> vector(const std::string& name, std::size_t size,
                            Presence presence = Presence::kRequired) {
    const gguf::Tensor* tensor = take(name, size, 1, presence);
    if (!tensor) return {};
    std::vector<float> out(size);
    dequantize_rows(view(*tensor), 0, {out.data(), 1, size});
    return out;
  }

  Projection projection(const std::string& prefix, std::size_t inputs,
                        std::initializer_list<Part> parts, Presence bias = Presence::kOptional) {
    Projection out;
    std::vector<std::vector<float>> biases;
    bool any_bias = false;
    for (const Part& part : parts) {
      out.names.push_back(fmt::format("{}{}.weight", prefix, part.name));
      const gguf::Tensor* tensor =
          take(out.names.back(), inputs, part.outputs, Presence::kRequired);
      if (!tensor) return out;
      out.matrices.push_back(view(*tensor));
      biases.push_back(vector(fmt::format("{}{}.bias", prefix, part.name), part.outputs, bias));
      any_bias |= !biases.back().empty();
    }
    for (std::size_t i = 0; any_bias && i < biases.size(); ++i) {
      biases[i].resize(out.matrices[i].rows);  // those without one: zeros
      out.bias.insert(out.bias.end(), biases[i].begin(), biases[i].end());
    }
    return out;
  }

  /// A tensor that nothing asked for would be silently left out of the computation.
  void reject_others(std::string_view architecture) {
    for (const gguf::Tensor& tensor : file_.tensors())
      if (!taken_.contains(tensor.name))
        reject(ErrorCode::kUnsupported, tensor.name,
               fmt::format("not a tensor of architecture '{}'", architecture));
  }

  void reject(ErrorCode code, std::string_view tensor, const std::string& reason) {
    if (!error_)
      error_ =
          Error{code, fmt::format("{}: tensor '{}': {}", file_.path().string(), tensor, reason)};
  }

 private:
  static MatrixView view(const gguf::Tensor& tensor) {
    return {tensor.type, tensor.rows(), tensor.cols(), tensor.data.data()};
  }

  const gguf::Tensor* take(const std::string& name, std::size_t cols, std::size_t rows,
                           Presence presence) {
    if (error_) return nullptr;
    const gguf::Tensor* tensor = file_.find_tensor(name);
    if (!tensor) {
      if (presence == Presence::kRequired)
        reject(ErrorCode::kBadFile, name, fmt::format("missing, expected {} x {}", rows, cols));
      return nullptr;
    }
    taken_.insert(tensor->name);
    if (tensor->cols() != cols || tensor->rows() != rows) {
      reject(ErrorCode::kBadFile, name,
             fmt::format("found {} x {}, expected {} x {}", tensor->rows(), tensor->cols(), rows,
                         cols));
      return nullptr;
    }
    if (!can_compute(tensor->type)) {
      reject(ErrorCode::kUnsupported, name,
             fmt::format("cannot compute with type {}", type_info(tensor->type).name));
      return nullptr;
    }
    return tensor;
  }

  const gguf::File& file_;
  std::set<std::string_view> taken_;
  std::optional<Error> error_;
};

std::size_t size(int n) {
  return static_cast<std::size_t>(n);
}

LayerWeights read_layer(Reader& reader, int index, const Config& config,
                        const arch::Architecture& architecture) {
  const std::string prefix = fmt::format("blk.{}.", index);
  const std::size_t n_embd = size(config.n_embd), n_ff = size(config.n_ff);
  const std::size_t q = size(config.n_heads) * size(config.head_dim_k);
  const std::size_t k = size(config.n_kv_heads) * size(config.head_dim_k);
  const std::size_t v = size(config.n_kv_heads) * size(config.head_dim_v);

  LayerWeights layer;
  layer.attn_norm = reader.vector(prefix + "attn_norm.weight", n_embd);
  const Presence bias = architecture.qkv_bias ? Presence::kRequired : Presence::kOptional;
  layer.qkv =
      config.fused_qkv
          ? reader.projection(prefix, n_embd, {{"attn_qkv", q + k + v}}, bias)
          : reader.projection(prefix, n_embd, {{"attn_q", q}, {"attn_k", k}, {"attn_v", v}}, bias);
  if (architecture.qk_norms) {
    layer.q_norm = reader.vector(prefix + "attn_q_norm.weight", size(config.head_dim_k));
    layer.k_norm = reader.vector(prefix + "attn_k_norm.weight", size(config.head_dim_k));
  }
  layer.attn_output = reader.projection(prefix, size(config.n_heads) * size(config.head_dim_v),
                                        {{"attn_output", n_embd}});
  if (architecture.post_norms)
    layer.attn_post_norm = reader.vector(prefix + "post_attention_norm.weight", n_embd);
  layer.ffn_norm = reader.vector(prefix + "ffn_norm.weight", n_embd);
  layer.gate_up = config.fused_gate_up
                      ? reader.projection(prefix, n_embd, {{"ffn_up", 2 * n_ff}})
                      : reader.projection(prefix, n_embd, {{"ffn_gate", n_ff}, {"ffn_up", n_ff}});
  layer.down = reader.projection(prefix, n_ff, {{"ffn_down", n_embd}});
  if (architecture.post_norms)
    layer.ffn_post_norm = reader.vector(prefix + "post_ffw_norm.weight", n_embd);
  return layer;
}

/// The matrices in block formats that meet activations, in the order in which a token meets them
/// but for the output matrix, which is first. The embedding is not among them: its rows are looked
/// up. Where it is the output matrix too, that is a view of its own.
std::vector<MatrixView*> multiplied_in_blocks(Weights& weights) {
  std::vector<MatrixView*> out;
  const auto add = [&](Projection& projection) {
    for (MatrixView& matrix : projection.matrices)
      if (can_pack(matrix.type)) out.push_back(&matrix);
  };
  add(weights.output);
  for (LayerWeights& layer : weights.layers)
    for (Projection* const projection : layer.projections()) add(*projection);
  return out;
}

/// Of a matrix in F32, completed so that the next one begins with a cache line; nullopt: more than
/// 64 bits can say.
std::optional<std::uint64_t> float_bytes(const MatrixView& matrix) {
  const std::uint64_t factors[] = {matrix.rows, matrix.cols, sizeof(float)};
  const auto bytes = checked_product(factors);
  return bytes ? checked_align_up(*bytes, kStreamAlign) : std::nullopt;
}

/// All rows of a matrix, parallel.
void dequantize(const MatrixView& matrix, float* out) {
#pragma omp parallel
  {
    const auto [first, last] =
        part(matrix.rows, static_cast<std::size_t>(omp_get_thread_num()),
             static_cast<std::size_t>(omp_get_num_threads()), kernels::kPanelRows);
    dequantize_rows(matrix, first, {out + first * matrix.cols, last - first, matrix.cols});
  }
}

}  // namespace

Result<Weights> read_weights(const gguf::File& file, const Config& config) {
  const arch::Architecture& architecture = *arch::find(config.architecture);
  Reader reader(file);
  const std::size_t n_embd = size(config.n_embd), n_vocab = size(config.vocab_size);

  Weights weights;
  weights.embedding = reader.projection("", n_embd, {{"token_embd", n_vocab}});
  weights.output = file.find_tensor("output.weight")
                       ? reader.projection("", n_embd, {{"output", n_vocab}})
                       : weights.embedding;
  weights.output_norm = reader.vector("output_norm.weight", n_embd);
  const auto factors = [&](const std::string& name) {
    auto values = reader.vector(name, size(config.rope_dims) / 2, Presence::kOptional);
    for (const float factor : values)
      if (!(factor > 0) || !std::isfinite(factor))
        reader.reject(ErrorCode::kBadFile, name,
                      fmt::format("found factor {}, expected positive numbers", factor));
    return values;
  };
  weights.rope_freqs = factors("rope_freqs.weight");
  weights.rope_factors_long = factors("rope_factors_long.weight");
  weights.rope_factors_short = factors("rope_factors_short.weight");
  for (int i = 0; i < config.n_layers && !reader.error(); ++i)
    weights.layers.push_back(read_layer(reader, i, config, architecture));
  reader.reject_others(config.architecture);
  if (reader.error()) return fail(*reader.error());
  return weights;
}

Result<void> pack_weights(const gguf::File& file, Weights& weights) {
  for (MatrixView* const matrix : multiplied_in_blocks(weights)) {
    auto packed = PackedMatrix::pack(*matrix);
    if (!packed) return fail(packed.error(), file.path().string());
    file.release({matrix->data, matrix->bytes()});
    *matrix = packed->view();
    weights.packed.push_back(std::move(*packed));
  }
  return {};
}

Result<void> dequantize_weights(const gguf::File& file, Weights& weights) {
  const std::vector<MatrixView*> matrices = multiplied_in_blocks(weights);
  std::optional<std::uint64_t> needed = 0;
  for (const MatrixView* matrix : matrices)
    if (const auto bytes = float_bytes(*matrix); needed && bytes)
      needed = checked_add(*needed, *bytes);
    else
      needed = std::nullopt;
  std::byte* at = needed ? allocate_for_streams(*needed) : nullptr;
  if (at == nullptr)
    return fail(
        ErrorCode::kOutOfMemory,
        fmt::format(
            "{}: no memory for {} matrices in F32, as float activations need them: {} bytes",
            file.path().string(), matrices.size(),
            needed ? std::to_string(*needed) : "more than 2^64"));
  weights.floats.reset(at, [](std::byte* p) { std::free(p); });
  for (MatrixView* const matrix : matrices) {
    dequantize(*matrix, reinterpret_cast<float*>(at));
    file.release({matrix->data, matrix->bytes()});
    const std::uint64_t bytes = *float_bytes(*matrix);
    *matrix = {TensorType::F32, matrix->rows, matrix->cols, at};
    at += bytes;
  }
  return {};
}

}  // namespace kquant
