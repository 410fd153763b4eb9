#include "kquant/eval/calibrated_quantization.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <memory>

#include "eval/input_moments.hpp"
#include "eval/text_states.hpp"
#include "kquant/error_feedback.hpp"
#include "quantize/model_tensors.hpp"

namespace kquant {
namespace {

constexpr std::size_t kProjections = LayerWeights::kProjections;

/// A text on its way through a model, layer by layer:
///
///     x --> layer i --> x
///              |  inputs of its matrices: moments, error feedback
///              +---> packed matrices
class CalibratedLayers {
 public:
  static Result<std::unique_ptr<CalibratedLayers>> create(const gguf::File& file,
                                                          const QuantizeReport& plan,
                                                          std::string_view text,
                                                          const QuantizeModelOptions& options,
                                                          const CalibrationOptions& calibration) {
    auto read = ModelAndText::read(file, text, calibration);
    if (!read) return fail(read.error());
    return std::unique_ptr<CalibratedLayers>(
        new CalibratedLayers(file, std::move(*read), plan, options));
  }

  /// The tensor, packed; or nothing where the ordinary path is to write it.
  Result<std::vector<std::byte>> packed(const PlannedTensor& tensor) {
    if (!calibrated_.contains(tensor.name)) return std::vector<std::byte>{};
    while (!done_.contains(tensor.name)) {
      auto ok = layer_ < model_.weights().layers.size() ? next_layer() : output();
      if (!ok) return fail(ok.error());
    }
    return std::move(done_.extract(tensor.name).mapped());
  }

 private:
  CalibratedLayers(const gguf::File& file, ModelAndText read, const QuantizeReport& plan,
                   const QuantizeModelOptions& options)
      : file_(file),
        windows_(std::move(read.windows)),
        options_{.threads = options.threads, .effort = plan.effort, .unbiased = options.unbiased},
        model_(read.config, std::move(read.weights)),
        cache_(read.config, static_cast<int>(windows_.context())),
        x_(windows_, read.config.n_embd) {
    std::map<std::string, TensorType> targets;  // of all tensors that become blocks
    for (const TensorReport& tensor : plan.tensors)
      if (tensor.plan.source != tensor.plan.target && can_pack(tensor.plan.target))
        targets[tensor.plan.name] = tensor.plan.target;
    const auto take = [&](const Projection& p) {
      for (const std::string& name : p.names)
        if (const auto found = targets.find(name); found != targets.end())
          calibrated_.insert(*found);
    };
    for (const LayerWeights& layer : model_.weights().layers)
      for (const Projection* p : layer.projections()) take(*p);
    const Weights& w = model_.weights();
    if (w.output.names != w.embedding.names) take(w.output);
    x_.embed(model_, cache_);
  }

  /// One layer's matrices in the layout of the fastest kernels, for as long as they are needed.
  class Packed {
   public:
    Result<MatrixView> add(const MatrixView& rows) {
      if (!can_pack(rows.type)) return rows;
      auto packed = PackedMatrix::pack(rows);
      if (!packed) return fail(packed.error());
      matrices_.push_back(std::move(*packed));
      return matrices_.back().view();
    }

   private:
    std::vector<PackedMatrix> matrices_;
  };

  Result<void> next_layer() {
    Packed packed;
    LayerWeights& layer = model_.weights().layers[layer_];
    const LayerWeights source = layer;
    for (Projection* p : layer.projections())
      for (MatrixView& matrix : p->matrices) {
        const auto view = packed.add(matrix);
        if (!view) return fail(view.error());
        matrix = *view;
      }
    auto moments = meet_inputs();
    layer = source;
    for (std::size_t p = 0; p < kProjections; ++p) {
      const Projection& projection = *layer.projections()[p];
      if (is_calibrated(projection))
        if (auto ok = quantize(projection, moments[p]); !ok) return ok;
      moments[p] = {};
      for (const MatrixView& matrix : projection.matrices)
        file_.release({matrix.data, matrix.bytes()});
    }
    ++layer_;
    return {};
  }

  bool is_calibrated(const Projection& projection) const {
    return std::ranges::any_of(projection.names,
                               [&](const auto& name) { return calibrated_.contains(name); });
  }

  /// Takes x through the layer.
  std::array<InputMoments, kProjections> meet_inputs() {
    std::array<InputMoments, kProjections> moments;
    const auto projections = model_.weights().layers[layer_].projections();
    model_.observer = [&](std::string_view tensor, Span2d<const float> inputs) {
      for (std::size_t p = 0; p < kProjections; ++p)
        if (projections[p]->names.front() == tensor && is_calibrated(*projections[p]))
          moments[p].add(inputs);
    };
    x_.run(model_, cache_, layer_);
    model_.observer = {};
    return moments;
  }

  Result<void> output() {
    InputMoments moments;
    FloatMatrix hidden;
    for (std::size_t i = 0; i < windows_.count(); ++i) {
      hidden.resize(windows_.context(), x_.window(i).cols);
      model_.finish(x_.window(i), hidden.view());
      moments.add(hidden.view());
    }
    return quantize(model_.weights().output, moments);
  }

  /// The packed rows of a projection's matrices are kept in done_.
  Result<void> quantize(const Projection& projection, InputMoments& moments) {
    const auto feedback = ErrorFeedback::prepare(moments.sum(), moments.tokens());
    QuantizeOptions options = options_;
    if (!feedback) return fail(feedback.error(), where(projection.names.front()));
    for (std::size_t m = 0; m < projection.matrices.size(); ++m) {
      const std::string& name = projection.names[m];
      const auto target = calibrated_.find(name);
      if (target == calibrated_.end()) continue;
      const MatrixView& source = projection.matrices[m];
      FloatMatrix w;
      w.resize(source.rows, source.cols);
      std::vector<std::byte> bytes(source.rows * row_bytes(target->second, source.cols));
      auto ok = dequantize(source.type, {source.data, source.bytes()}, w.view());
      options.unbiased = options_.unbiased && detail::length_matters(file_, name);
      if (ok) ok = feedback->quantize(target->second, w.view(), bytes, options);
      if (!ok) return fail(ok.error(), where(name));
      done_[name] = std::move(bytes);
    }
    return {};
  }

  std::string where(const std::string& tensor) const { return detail::at_tensor(file_, tensor); }

  const gguf::File& file_;
  Windows windows_;
  QuantizeOptions options_;
  ForwardPass model_;
  KvCache cache_;
  TextStates x_;  ///< before layer_
  std::size_t layer_ = 0;
  std::map<std::string, TensorType> calibrated_;  ///< tensors that meet error feedback
  std::map<std::string, std::vector<std::byte>> done_;
};

}  // namespace

Result<QuantizeReport> quantize_calibrated(const gguf::File& in, const std::filesystem::path& out,
                                           const Recipe& recipe, std::string_view text,
                                           const QuantizeModelOptions& options,
                                           const CalibrationOptions& calibration) {
  QuantizeModelOptions dry = options;
  dry.dry_run = true;
  auto plan = quantize_model(in, out, recipe, dry);
  if (!plan || options.dry_run) return plan;
  auto layers = CalibratedLayers::create(in, *plan, text, options, calibration);
  if (!layers) return fail(layers.error());
  QuantizeModelOptions with_layers = options;
  with_layers.encoder = [&](const PlannedTensor& tensor) { return (*layers)->packed(tensor); };
  return quantize_model(in, out, recipe, with_layers);
}

}  // namespace kquant
