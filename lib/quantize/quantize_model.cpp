#include "kquant/quantize_model.hpp"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "quantize/model_tensors.hpp"
#include "shape_check.hpp"

namespace kquant {

std::string detail::at_tensor(const gguf::File& file, std::string_view tensor) {
  return fmt::format("{}: tensor '{}'", file.path().string(), tensor);
}

std::size_t detail::matrices_of(const gguf::Tensor& tensor) {
  return static_cast<std::size_t>(tensor.shape[2] * tensor.shape[3]);
}

std::vector<PlannedTensor> detail::planned_tensors(const gguf::File& in) {
  std::vector<PlannedTensor> tensors;
  tensors.reserve(in.tensors().size());
  for (const gguf::Tensor& tensor : in.tensors())
    tensors.push_back({std::string(tensor.name),
                       tensor.type,
                       tensor.n_dims,
                       tensor.cols(),
                       tensor.rows(),
                       tensor.type,
                       {}});
  return tensors;
}

bool detail::length_matters(const gguf::File& in, std::string_view tensor) {
  struct Rule {
    std::string_view matrix, norm;
  };
  // What follows a gate is not linear: its length is made up for in part.
  constexpr Rule kRules[] = {
      {"attn_q.weight", "attn_q_norm"},         {"attn_k.weight", "attn_k_norm"},
      {"attn_v.weight", "post_attention_norm"}, {"attn_output.weight", "post_attention_norm"},
      {"ffn_gate.weight", "post_ffw_norm"},     {"ffn_up.weight", "post_ffw_norm"},
      {"ffn_down.weight", "post_ffw_norm"}};
  const std::size_t layer = tensor.starts_with("blk.") ? tensor.find('.', 4) : tensor.npos;
  if (layer == tensor.npos) return true;
  for (const auto& [matrix, norm] : kRules)
    if (tensor.substr(layer + 1) == matrix)
      return !in.find_tensor(fmt::format("{}.{}.weight", tensor.substr(0, layer), norm));
  return true;
}

Result<std::vector<float>> detail::importance_of(const gguf::File& in, const gguf::Tensor& tensor,
                                                 const Imatrix* imatrix) {
  if (!imatrix) return std::vector<float>{};
  auto importance = imatrix->importance(tensor.name);
  if (!importance) return fail(importance.error());
  const std::size_t expected = static_cast<std::size_t>(tensor.cols()) * matrices_of(tensor);
  if (!importance->empty() && importance->size() != expected)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: its imatrix entry has {} values, expected {} ({} columns of {} "
                            "matrices)",
                            at_tensor(in, tensor.name), importance->size(), expected, tensor.cols(),
                            matrices_of(tensor)));
  return importance;
}

namespace {

using detail::at_tensor;
using detail::importance_of;
using detail::matrices_of;
using detail::planned_tensors;

// Rows are converted in panels of about this many weights: 16 MiB of floats.
constexpr std::size_t kPanelWeights = std::size_t{1} << 22;
// What one thread decodes at a time.
constexpr std::size_t kPieceWeights = std::size_t{1} << 15;

Result<int> int_or(const gguf::File& file, const std::string& key, int otherwise) {
  const auto value = file.find(key);
  if (!value) return otherwise;
  std::optional<std::int64_t> number;
  if (value->type() == gguf::ValueType::Array) {  // one value a layer: the first one
    const auto numbers = value->as_ints();
    if (numbers && !numbers->empty()) number = numbers->front();
  } else {
    number = value->as_int();
  }
  if (!number || *number < 0 || *number > std::numeric_limits<int>::max())
    return fail(ErrorCode::kBadFile,
                fmt::format("{}: {} is not a count", file.path().string(), key));
  return static_cast<int>(*number);
}

// ---- before anything is written ----

Result<void> check_sources(const gguf::File& in, std::span<const PlannedTensor> tensors,
                           bool allow_requantize) {
  for (const PlannedTensor& tensor : tensors) {
    if (tensor.source == tensor.target) continue;
    const TypeInfo& source = type_info(tensor.source);
    if (source.support == Support::kOpaque)
      return fail(
          ErrorCode::kInvalidArgument,
          fmt::format("{}: its type {} cannot be read", at_tensor(in, tensor.name), source.name));
    if (source.support == Support::kBlock && !allow_requantize)
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{}: already quantized to {}, and requantizing is not allowed",
                              at_tensor(in, tensor.name), source.name));
  }
  return {};
}

Result<void> check_imatrix(const gguf::File& in, const Recipe& recipe,
                           const QuantizeModelOptions& options, QuantizeReport& report) {
  for (std::size_t i = 0; i < report.tensors.size(); ++i) {
    TensorReport& tensor = report.tensors[i];
    const auto importance = importance_of(in, in.tensors()[i], options.imatrix);
    if (!importance) return fail(importance.error());
    tensor.weighted = !importance->empty();
    if (!options.dry_run && !options.encoder && !tensor.weighted &&
        needs_imatrix(recipe, tensor.plan))
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{}: recipe {} needs an imatrix{}", at_tensor(in, tensor.plan.name),
                              recipe.name,
                              options.imatrix ? ", and the given one has no entry for it" : ""));
  }
  if (!options.imatrix) return {};
  for (const auto& [name, entry] : options.imatrix->entries())
    if (!in.find_tensor(name)) report.unused_imatrix_entries.push_back(name);
  const auto& unused = report.unused_imatrix_entries;
  if (!unused.empty() && unused.size() == options.imatrix->entries().size())
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: none of the imatrix's {} entries names a tensor of this model "
                            "(the first: '{}')",
                            in.path().string(), unused.size(), unused.front()));
  return {};
}

/// `best` unless that would take more than minutes.
Effort suitable_effort(std::span<const PlannedTensor> tensors) {
  constexpr std::uint64_t kMany = std::uint64_t{1} << 31;
  std::uint64_t weights = 0;
  for (const PlannedTensor& tensor : tensors)
    if (tensor.source != tensor.target) weights += std::uint64_t{tensor.rows} * tensor.cols;
  return weights > kMany ? Effort::kFast : Effort::kBest;
}

gguf::Metadata metadata_of(const gguf::File& in, const Recipe& recipe, const Imatrix* imatrix) {
  auto metadata = gguf::Metadata::copy_of(in);
  metadata.set_u32("general.quantization_version", 2);
  metadata.set_u32("general.file_type", recipe.file_type);
  if (!imatrix) return metadata;
  // An earlier imatrix's facts must not mix with this one's.
  for (const char* key : {"file", "dataset", "entries_count", "chunks_count"})
    metadata.erase(fmt::format("quantize.imatrix.{}", key));
  if (!imatrix->source.empty()) metadata.set_string("quantize.imatrix.file", imatrix->source);
  if (!imatrix->datasets.empty())
    metadata.set_string("quantize.imatrix.dataset", imatrix->datasets.front());
  metadata.set_u32("quantize.imatrix.entries_count",
                   static_cast<std::uint32_t>(imatrix->entries().size()));
  if (imatrix->chunk_count > 0)
    metadata.set_u32("quantize.imatrix.chunks_count", imatrix->chunk_count);
  return metadata;
}

// ---- one tensor ----

/// Decodes rows of any readable type, in parallel.
Result<void> decode(TensorType type, std::span<const std::byte> bytes, Span2d<float> out,
                    int threads) {
  const std::size_t piece = std::max<std::size_t>(1, kPieceWeights / out.cols);
  const std::size_t row_size = row_bytes(type, out.cols);
  const auto count = static_cast<std::int64_t>((out.rows + piece - 1) / piece);
  Result<void> result;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (std::int64_t i = 0; i < count; ++i) {
    const std::size_t first = static_cast<std::size_t>(i) * piece;
    const std::size_t rows = std::min(piece, out.rows - first);
    auto done = dequantize(type, bytes.subspan(first * row_size, rows * row_size),
                           out.middle_rows(first, rows));
    if (!done) {
#pragma omp critical
      result = std::move(done);
    }
  }
  return result;
}

/// Converts tensors panel by panel; the buffers are kept from one to the next.
class Converter {
 public:
  /// out: nullptr where only the error is asked for.
  Converter(const gguf::File& in, gguf::Writer* out, Effort effort,
            const QuantizeModelOptions& options)
      : in_(in),
        out_(out),
        effort_(effort),
        importance_floor_(options.importance_floor),
        unbiased_(options.unbiased),
        threads_(options.threads > 0 ? options.threads : omp_get_max_threads()),
        quantizer_(options.quantizer) {}

  /// `ready`: the tensor packed already, or nothing.
  Result<QuantizationError> convert(const gguf::Tensor& tensor, TensorType target,
                                    std::span<const float> importance,
                                    std::span<const std::byte> ready) {
    QuantizationError error;
    const std::size_t cols = tensor.cols();
    const std::size_t rows_a_matrix = tensor.shape[1];
    const std::size_t panel = std::clamp<std::size_t>(kPanelWeights / cols, 1, rows_a_matrix);
    for (std::size_t matrix = 0; matrix < matrices_of(tensor); ++matrix) {
      const auto weights =
          importance.empty() ? importance : importance.subspan(matrix * cols, cols);
      for (std::size_t row = 0; row < rows_a_matrix; row += panel) {
        const std::size_t rows = std::min(panel, rows_a_matrix - row);
        const std::size_t first = matrix * rows_a_matrix + row;
        const std::size_t bytes = row_bytes(target, cols);
        const auto packed = ready.empty() ? ready : ready.subspan(first * bytes, rows * bytes);
        auto part = convert_panel(tensor, target, first, rows, weights, packed);
        if (!part) return part;
        error += *part;
      }
    }
    return error;
  }

 private:
  Result<QuantizationError> convert_panel(const gguf::Tensor& tensor, TensorType target,
                                          std::size_t first, std::size_t rows,
                                          std::span<const float> importance,
                                          std::span<const std::byte> ready) {
    const std::size_t cols = tensor.cols();
    const std::size_t source_row = row_bytes(tensor.type, cols);
    values_.resize(rows * cols);
    packed_.resize(rows * row_bytes(target, cols));
    const Span2d<float> values(values_.data(), rows, cols);
    const auto bytes = tensor.data.subspan(first * source_row, rows * source_row);
    if (auto done = decode(tensor.type, bytes, values, threads_); !done)
      return fail(done.error(), at_tensor(in_, tensor.name));
    const QuantizeOptions options{importance, threads_, effort_, importance_floor_,
                                  unbiased_ && detail::length_matters(in_, tensor.name)};
    if (!ready.empty())
      packed_.assign(ready.begin(), ready.end());
    else if (auto done = quantizer_(target, values, packed_, options); !done) {
      // Rows count from the start of the tensor, not of the panel.
      if (done.error().code == ErrorCode::kBadData)
        if (auto finite = detail::check_finite(values, first); !finite) done = finite;
      return fail(done.error(), at_tensor(in_, tensor.name));
    }
    if (out_)
      if (auto done = out_->append(packed_); !done) return fail(done.error());
    auto error = measure_error(target, values, packed_, options);
    if (!error) return fail(error.error(), at_tensor(in_, tensor.name));
    return error;
  }

  const gguf::File& in_;
  gguf::Writer* out_;
  Effort effort_;
  float importance_floor_;
  bool unbiased_;
  int threads_;
  decltype(QuantizeModelOptions::quantizer) quantizer_;
  std::vector<float> values_;
  std::vector<std::byte> packed_;
};

Result<void> write_model(const gguf::File& in, const std::filesystem::path& out,
                         const Recipe& recipe, const QuantizeModelOptions& options,
                         QuantizeReport& report) {
  std::vector<gguf::TensorSpec> specs;
  for (std::size_t i = 0; i < report.tensors.size(); ++i) {
    specs.push_back(gguf::spec_of(in.tensors()[i]));
    specs.back().type = report.tensors[i].plan.target;
  }
  auto writer =
      gguf::Writer::create(out, metadata_of(in, recipe, options.imatrix), std::move(specs));
  if (!writer) return fail(writer.error());
  Converter converter(in, &*writer, report.effort, options);
  for (std::size_t i = 0; i < report.tensors.size(); ++i) {
    TensorReport& planned = report.tensors[i];
    const gguf::Tensor& tensor = in.tensors()[i];
    if (planned.plan.source == planned.plan.target) {
      if (auto done = writer->append(tensor.data); !done) return done;
    } else {
      const auto importance = importance_of(in, tensor, options.imatrix);
      if (!importance) return fail(importance.error());
      Result<std::vector<std::byte>> ready;
      if (options.encoder) ready = options.encoder(planned.plan);
      if (!ready) return fail(ready.error());
      const auto error = converter.convert(tensor, planned.plan.target, *importance, *ready);
      if (!error) return fail(error.error());
      planned.error = *error;
    }
    in.release(tensor.data);
    if (options.progress && !options.progress(i + 1, report.tensors.size(), planned.plan.name))
      return fail(ErrorCode::kInvalidArgument, "interrupted");
  }
  if (auto done = writer->finish(); !done) return done;
  std::error_code ignored;
  report.file_bytes_after = std::filesystem::file_size(out, ignored);
  return {};
}

}  // namespace

Result<QuantizationError> detail::error_as(const gguf::File& in, const gguf::Tensor& tensor,
                                           TensorType type, std::span<const float> importance,
                                           int threads) {
  if (type == tensor.type) return QuantizationError{};
  auto error = Converter(in, nullptr, Effort::kFast, {.threads = threads})
                   .convert(tensor, type, importance, {});
  in.release(tensor.data);
  return error;
}

Result<ModelShape> model_shape(const gguf::File& file) {
  ModelShape shape;
  const auto architecture = file.get_string("general.architecture");
  if (!architecture) return fail(architecture.error());
  shape.architecture = *architecture;
  const auto key = [&](const char* suffix) { return shape.architecture + suffix; };
  if (const auto layers = file.get_int(key(".block_count")); !layers) return fail(layers.error());
  const std::pair<std::string, int*> counts[] = {
      {key(".block_count"), &shape.n_layers},
      {key(".attention.head_count"), &shape.n_heads},
      {key(".attention.head_count_kv"), &shape.n_kv_heads},
      {key(".expert_count"), &shape.n_experts},
  };
  for (const auto& [name, count] : counts) {
    // As in llama.cpp, every head has its own key and value unless said otherwise.
    const auto value = int_or(file, name, count == &shape.n_kv_heads ? shape.n_heads : 0);
    if (!value) return fail(value.error());
    *count = *value;
  }
  shape.is_70b = is_70b_shape(shape.architecture, shape.n_layers, shape.n_heads, shape.n_kv_heads);
  return shape;
}

Result<QuantizeReport> quantize_model(const gguf::File& in, const std::filesystem::path& out,
                                      const Recipe& recipe, const QuantizeModelOptions& options) {
  const auto shape = model_shape(in);
  if (!shape) return fail(shape.error());
  auto tensors = planned_tensors(in);
  QuantizeReport report;
  report.bits_per_weight_before = bits_per_weight(tensors);
  PlanOptions plan_options = options.plan;
  plan_options.has_imatrix |= options.imatrix != nullptr;
  if (auto planned = plan(recipe, *shape, plan_options, tensors); !planned)
    return fail(planned.error());
  report.bits_per_weight_after = bits_per_weight(tensors);
  report.effort = options.effort.value_or(suitable_effort(tensors));
  report.file_bytes_before = in.total_bytes();
  if (auto ok = check_sources(in, tensors, options.allow_requantize); !ok) return fail(ok.error());
  for (PlannedTensor& tensor : tensors) {
    TensorReport row;
    row.bytes_before = tensor.rows * row_bytes(tensor.source, tensor.cols);
    row.bytes_after = tensor.rows * row_bytes(tensor.target, tensor.cols);
    row.plan = std::move(tensor);
    report.tensors.push_back(std::move(row));
  }
  if (auto ok = check_imatrix(in, recipe, options, report); !ok) return fail(ok.error());
  if (!options.dry_run)
    if (auto written = write_model(in, out, recipe, options, report); !written)
      return fail(written.error());
  return report;
}

}  // namespace kquant
