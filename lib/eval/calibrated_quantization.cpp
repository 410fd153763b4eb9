#include "kquant/eval/calibrated_quantization.hpp"

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

/// A text on its way through a model and its quantized twin, layer by layer:
///
///     model   x --> layer i ------------> x            inputs of its matrices
///                                                        |  moments, error feedback
///     twin    y --> layer i, rehearsed --> inputs -------+------> packed matrices
///             y --> layer i, with these --> y
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
    auto twin = read_weights(file, *config);
    if (!twin) return fail(twin.error());
    const auto tokenizer = Tokenizer::load(file);
    if (!tokenizer) return fail(tokenizer.error());
    auto windows = Windows::cut(*tokenizer, text, calibration.context, calibration.chunks);
    if (!windows) return fail(windows.error());
    std::unique_ptr<CalibratedLayers> layers(new CalibratedLayers(
        file, *config, std::move(*weights), std::move(*twin), std::move(*windows), plan, threads));
    if (auto ok = layers->start(config->embedding_scale); !ok) return fail(ok.error());
    return layers;
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
  CalibratedLayers(const gguf::File& file, const Config& config, Weights weights, Weights twin,
                   Windows windows, const QuantizeReport& plan, int threads)
      : file_(file),
        windows_(std::move(windows)),
        options_{.threads = threads, .effort = plan.effort},
        model_(config, std::move(weights)),
        twin_(config, std::move(twin)),
        cache_(config, static_cast<int>(windows_.context())),
        x_(windows_, config.n_embd),
        y_(windows_, config.n_embd) {
    for (const TensorReport& tensor : plan.tensors)
      if (tensor.plan.source != tensor.plan.target && can_pack(tensor.plan.target))
        targets_[tensor.plan.name] = tensor.plan.target;
    const auto take = [&](const Projection& p) {
      for (const std::string& name : p.names)
        if (targets_.contains(name)) calibrated_[name] = targets_[name];
    };
    for (LayerWeights& layer : model_.weights().layers)
      for (const Projection* p : layer.projections()) take(*p);
    const Weights& w = model_.weights();
    if (w.output.names != w.embedding.names) take(w.output);
  }

  /// The twin reads its own embedding.
  Result<void> start(float embedding_scale) {
    x_.embed(model_, cache_);
    y_ = x_;
    const Projection& embedding = model_.weights().embedding;
    const auto target = targets_.find(embedding.names.front());
    if (target == targets_.end()) return {};
    const MatrixView& table = embedding.matrices.front();
    std::vector<std::byte> bytes(windows_.context() * row_bytes(target->second, table.cols));
    for (std::size_t i = 0; i < windows_.count(); ++i) {
      const std::vector<Token> tokens = windows_.window(i);
      const Span2d<float> rows = y_.window(i);
      for (std::size_t r = 0; r < rows.rows; ++r)
        dequantize_rows(table, static_cast<std::size_t>(tokens[r]), rows.middle_rows(r, 1));
      if (auto ok = kquant::quantize(target->second, rows, bytes, options_); !ok)
        return fail(ok.error(), where(embedding.names.front()));
      if (auto ok = dequantize(target->second, bytes, rows); !ok) return ok;
      for (std::size_t r = 0; r < rows.rows; ++r)
        for (float& value : rows.row(r)) value *= embedding_scale;
    }
    return {};
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
    LayerWeights& model = model_.weights().layers[layer_];
    LayerWeights& twin = twin_.weights().layers[layer_];
    const LayerWeights source = model;
    for (Projection* p : model.projections())
      for (MatrixView& matrix : p->matrices) {
        const auto view = packed.add(matrix);
        if (!view) return fail(view.error());
        matrix = *view;
      }
    twin = model;

    auto moments = meet_inputs();
    LayerWeights from = source;
    for (std::size_t p = 0; p < kProjections; ++p) {
      auto views = quantize(*from.projections()[p], moments[p]);
      if (!views) return fail(views.error());
      for (std::size_t m = 0; m < views->size(); ++m)
        if ((*views)[m].data) {
          const auto view = packed.add((*views)[m]);
          if (!view) return fail(view.error());
          twin.projections()[p]->matrices[m] = *view;
        }
      moments[p] = {};
    }
    y_.run(twin_, cache_, layer_);
    model = twin = source;
    for (const Projection* p : model.projections())
      for (const MatrixView& matrix : p->matrices) file_.release({matrix.data, matrix.bytes()});
    ++layer_;
    return {};
  }

  /// Takes x through the layer, and lets y see it.
  std::array<InputMoments, kProjections> meet_inputs() {
    std::array<InputMoments, kProjections> moments;
    std::array<FloatMatrix, kProjections> x, y;
    const auto keep_inputs_of = [&](ForwardPass& pass, std::array<FloatMatrix, kProjections>& in) {
      const auto projections = pass.weights().layers[layer_].projections();
      pass.observer = [&in, projections](std::string_view tensor, Span2d<const float> input) {
        for (std::size_t p = 0; p < kProjections; ++p)
          if (projections[p]->names.front() == tensor) in[p].transpose_of(input);
      };
    };
    keep_inputs_of(model_, x);
    keep_inputs_of(twin_, y);
    for (std::size_t i = 0; i < windows_.count(); ++i) {
      x_.run(model_, cache_, layer_, i);
      y_.rehearse(twin_, cache_, layer_, i);
      for (std::size_t p = 0; p < kProjections; ++p) moments[p].add(x[p], y[p]);
    }
    model_.observer = twin_.observer = {};
    return moments;
  }

  Result<void> output() {
    InputMoments moments;
    FloatMatrix hidden, x, y;
    for (std::size_t i = 0; i < windows_.count(); ++i) {
      const auto of = [&](ForwardPass& pass, TextStates& states, FloatMatrix& inputs) {
        hidden.resize(windows_.context(), states.window(i).cols);
        pass.finish(states.window(i), hidden.view());
        inputs.transpose_of(hidden.view());
      };
      of(model_, x_, x);
      of(twin_, y_, y);
      moments.add(x, y);
    }
    const auto views = quantize(model_.weights().output, moments);
    if (!views) return fail(views.error());
    return {};
  }

  /// Packed rows of a projection's matrices, kept in done_; views without data of those that stay.
  Result<std::vector<MatrixView>> quantize(const Projection& projection, InputMoments& moments) {
    std::vector<MatrixView> views(projection.matrices.size());
    const auto feedback = ErrorFeedback::prepare(moments.own());
    if (!feedback) return fail(feedback.error(), where(projection.names.front()));
    for (std::size_t m = 0; m < views.size(); ++m) {
      const std::string& name = projection.names[m];
      const auto target = calibrated_.find(name);
      if (target == calibrated_.end()) continue;
      const MatrixView& source = projection.matrices[m];
      FloatMatrix w;
      w.resize(source.rows, source.cols);
      if (auto ok = dequantize(source.type, {source.data, source.bytes()}, w.view()); !ok)
        return fail(ok.error(), where(name));
      std::vector<std::byte> bytes(source.rows * row_bytes(target->second, source.cols));
      auto ok = feedback->follow_inputs(moments.change(), w.view(), moments.tokens());
      if (ok) ok = feedback->quantize(target->second, w.view(), bytes, options_);
      if (!ok) return fail(ok.error(), where(name));
      const auto& kept = done_[name] = std::move(bytes);
      views[m] = {target->second, source.rows, source.cols, kept.data()};
    }
    return views;
  }

  std::string where(const std::string& tensor) const { return detail::at_tensor(file_, tensor); }

  const gguf::File& file_;
  Windows windows_;
  QuantizeOptions options_;
  ForwardPass model_, twin_;
  KvCache cache_;
  TextStates x_, y_;  ///< before layer_
  std::size_t layer_ = 0;
  std::map<std::string, TensorType> targets_;     ///< of all tensors that become blocks
  std::map<std::string, TensorType> calibrated_;  ///< those among them that meet error feedback
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
