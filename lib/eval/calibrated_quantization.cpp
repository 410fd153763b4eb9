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

/// The last eighth of the text: what error feedback for the rest of it is judged by.
constexpr std::size_t kHeldOut = 8;
/// Rows of a matrix that are judged.
constexpr std::size_t kSampleRows = 32;

/// A text on its way through a model, layer by layer:
///
///     x --> layer i --> x
///              |  inputs of its matrices: moments, error feedback
///              +---> packed matrices
class CalibratedLayers {
 public:
  static Result<std::unique_ptr<CalibratedLayers>> create(const gguf::File& file,
                                                          const QuantizeReport& plan,
                                                          std::string_view text, int threads,
                                                          const CalibrationOptions& calibration) {
    auto config = read_config(file);
    if (!config) return fail(config.error());
    auto weights = read_weights(file, *config);
    if (!weights) return fail(weights.error());
    const auto tokenizer = Tokenizer::load(file);
    if (!tokenizer) return fail(tokenizer.error());
    auto windows = Windows::cut(*tokenizer, text, calibration.context, calibration.chunks);
    if (!windows) return fail(windows.error());
    return std::unique_ptr<CalibratedLayers>(new CalibratedLayers(
        file, *config, std::move(*weights), std::move(*windows), plan, threads));
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
  CalibratedLayers(const gguf::File& file, const Config& config, Weights weights, Windows windows,
                   const QuantizeReport& plan, int threads)
      : file_(file),
        windows_(std::move(windows)),
        options_{.threads = threads, .effort = plan.effort},
        model_(config, std::move(weights)),
        cache_(config, static_cast<int>(windows_.context())),
        x_(windows_, config.n_embd) {
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

  struct Moments {
    InputMoments fitted, held_out;
  };

  /// Of window i.
  void add(std::size_t i, Span2d<const float> inputs, Moments& to) const {
    const std::size_t all = windows_.count() * windows_.context(), begin = i * windows_.context();
    const std::size_t last = std::max(all - all / kHeldOut, begin) - begin;
    const std::size_t fitted = std::min(last, inputs.rows);
    to.fitted.add(inputs.middle_rows(0, fitted));
    to.held_out.add(inputs.middle_rows(fitted, inputs.rows - fitted));
  }

  /// Takes x through the layer.
  std::array<Moments, kProjections> meet_inputs() {
    std::array<Moments, kProjections> moments;
    const auto projections = model_.weights().layers[layer_].projections();
    for (std::size_t i = 0; i < windows_.count(); ++i) {
      model_.observer = [&](std::string_view tensor, Span2d<const float> inputs) {
        for (std::size_t p = 0; p < kProjections; ++p)
          if (projections[p]->names.front() == tensor && is_calibrated(*projections[p]))
            add(i, inputs, moments[p]);
      };
      x_.run(model_, cache_, layer_, i);
    }
    model_.observer = {};
    return moments;
  }

  Result<void> output() {
    Moments moments;
    FloatMatrix hidden;
    for (std::size_t i = 0; i < windows_.count(); ++i) {
      hidden.resize(windows_.context(), x_.window(i).cols);
      model_.finish(x_.window(i), hidden.view());
      add(i, hidden.view(), moments);
    }
    return quantize(model_.weights().output, moments);
  }

  /// The packed rows of a projection's matrices are kept in done_.
  Result<void> quantize(const Projection& projection, Moments& moments) {
    const auto shrinkage = find_shrinkage(projection, moments);
    if (!shrinkage) return fail(shrinkage.error(), where(projection.names.front()));
    moments.fitted.add(moments.held_out);
    const auto feedback = ErrorFeedback::prepare(moments.fitted.sum(), *shrinkage);
    if (!feedback) return fail(feedback.error(), where(projection.names.front()));
    for (std::size_t m = 0; m < projection.matrices.size(); ++m) {
      const std::string& name = projection.names[m];
      const auto target = calibrated_.find(name);
      if (target == calibrated_.end()) continue;
      const MatrixView& source = projection.matrices[m];
      FloatMatrix w;
      auto ok = read_rows(source, 1, w);
      std::vector<std::byte> bytes(source.rows * row_bytes(target->second, source.cols));
      if (ok) ok = feedback->quantize(target->second, w.view(), bytes, options_);
      if (!ok) return fail(ok.error(), where(name));
      done_[name] = std::move(bytes);
    }
    return {};
  }

  Result<double> find_shrinkage(const Projection& projection, Moments& moments) {
    std::vector<FloatMatrix> rows(projection.matrices.size());
    std::vector<FeedbackSample> samples;
    for (std::size_t m = 0; m < rows.size(); ++m) {
      const auto target = calibrated_.find(projection.names[m]);
      if (target == calibrated_.end()) continue;
      const MatrixView& source = projection.matrices[m];
      const std::size_t step = (source.rows + kSampleRows - 1) / kSampleRows;
      if (auto ok = read_rows(source, step, rows[m]); !ok) return fail(ok.error());
      samples.push_back({target->second, rows[m].view()});
    }
    return choose_shrinkage(moments.fitted.sum(), moments.held_out.sum(), samples, options_);
  }

  /// Each `step`-th row.
  static Result<void> read_rows(const MatrixView& matrix, std::size_t step, FloatMatrix& rows) {
    rows.resize((matrix.rows + step - 1) / step, matrix.cols);
    const std::size_t bytes = matrix.bytes() / matrix.rows;
    for (std::size_t r = 0; r < rows.rows; ++r)
      if (auto ok = dequantize(matrix.type, {matrix.data + r * step * bytes, bytes},
                               rows.view().middle_rows(r, 1));
          !ok)
        return ok;
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
  auto layers = CalibratedLayers::create(in, *plan, text, options.threads, calibration);
  if (!layers) return fail(layers.error());
  QuantizeModelOptions with_layers = options;
  with_layers.encoder = [&](const PlannedTensor& tensor) { return (*layers)->packed(tensor); };
  return quantize_model(in, out, recipe, with_layers);
}

}  // namespace kquant
