#include "kquant/eval/calibrated_quantization.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <map>

#include "eval/windows.hpp"
#include "kquant/error_feedback.hpp"
#include "kquant/matmul.hpp"
#include "model/forward.hpp"

namespace kquant {
namespace {

double env(const char* name, double otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atof(text) : otherwise;
}

/// A float matrix of its own.
struct Floats {
  std::size_t rows = 0, cols = 0;
  std::vector<float> values;

  void resize(std::size_t r, std::size_t c) {
    rows = r;
    cols = c;
    values.resize(r * c);
  }
  Span2d<float> view() { return {values.data(), rows, cols}; }
};

void transpose(Span2d<const float> x, Floats& out) {
  out.resize(x.cols, x.rows);
#pragma omp parallel for
  for (std::size_t col = 0; col < x.cols; ++col)
    for (std::size_t row = 0; row < x.rows; ++row)
      out.values[col * x.rows + row] = x.data[row * x.stride + col];
}

/// What the matrices of one projection meet: sums of x x^T over the tokens of the text.
class InputMoments {
 public:
  /// x: what the original model's matrix meets, y: what the quantized one's does instead; both
  /// transposed, K x tokens.
  void add(Floats& x, Floats& y) {
    add(y, y, own_);
    add(x, y, cross_);
  }
  Floats& own() { return own_; }
  Floats& cross() { return cross_; }

 private:
  void add(Floats& a, Floats& b, Floats& sum) {
    if (sum.rows == 0) sum.resize(a.rows, a.rows);
    product_.resize(a.rows, a.rows);
    const MatrixView w{TensorType::F32, b.rows, b.cols,
                       reinterpret_cast<const std::byte*>(b.values.data())};
    matmul(w, a.view(), product_.view(), workspace_);
#pragma omp parallel for
    for (std::size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += product_.values[i];
  }

  Floats own_, cross_, product_;
  MatmulWorkspace workspace_;
};

constexpr std::size_t kProjections = 4;
std::array<Projection*, kProjections> projections_of(LayerWeights& layer) {
  return {&layer.qkv, &layer.attn_output, &layer.gate_up, &layer.down};
}

/// A text on its way through a model and its quantized twin, layer by layer.
class Calibration {
 public:
  static Result<std::unique_ptr<Calibration>> create(const gguf::File& file,
                                                     const QuantizeReport& plan,
                                                     std::string_view text,
                                                     const QuantizeModelOptions& options,
                                                     const CalibrationOptions& calibration) {
    auto config = read_config(file);
    if (!config) return fail(config.error());
    auto weights = read_weights(file, *config);
    if (!weights) return fail(weights.error());
    auto tokenizer = Tokenizer::load(file);
    if (!tokenizer) return fail(tokenizer.error());
    auto windows = Windows::cut(*tokenizer, text, calibration.context, calibration.chunks);
    if (!windows) return fail(windows.error());
    auto result = std::unique_ptr<Calibration>(
        new Calibration(file, *config, std::move(*weights), std::move(*windows), plan, options));
    result->start();
    return result;
  }

  /// The packed tensor, or nothing where the ordinary path is to write it.
  Result<std::vector<std::byte>> packed(const std::string& name) {
    while (!done_.contains(name) && layer_ < original_.weights().layers.size()) {
      if (!belongs_to_layers(name)) return std::vector<std::byte>{};
      if (auto ok = next_layer(); !ok) return fail(ok.error());
    }
    const auto found = done_.find(name);
    if (found == done_.end()) return std::vector<std::byte>{};
    auto bytes = std::move(found->second);
    done_.erase(found);
    return bytes;
  }

 private:
  Calibration(const gguf::File& file, const Config& config, const Weights& weights, Windows windows,
              const QuantizeReport& plan, const QuantizeModelOptions& options)
      : file_(file),
        windows_(std::move(windows)),
        options_(options),
        effort_(plan.effort),
        width_(static_cast<std::size_t>(config.n_embd)),
        original_(config, Weights(copy(weights))),
        quantized_(config, Weights(copy(weights))),
        cache_(config, static_cast<int>(windows_.context())) {
    for (const TensorReport& tensor : plan.tensors) target_[tensor.plan.name] = tensor.plan.target;
    for (std::size_t i = 0; i < original_.weights().layers.size(); ++i)
      for (const Projection* p : projections_of(original_.weights().layers[i]))
        for (const std::string& name : p->names) layer_of_[name] = i;
  }

  static Weights copy(const Weights& w) {
    return {w.embedding, w.output, w.output_norm, w.rope_freqs, w.rope_factors_long, w.rope_factors_short, w.layers, {}};
  }

  bool belongs_to_layers(const std::string& name) const { return layer_of_.contains(name); }

  void start() {
    const std::size_t tokens = windows_.count() * windows_.context();
    x_.resize(tokens, width_);
    for (std::size_t i = 0; i < windows_.count(); ++i) {
      const auto window = windows_.window(i);
      const Piece piece{window, &cache_, 0};
      original_.start({&piece, 1}, states(x_, i));
    }
    y_ = x_;
  }

  Span2d<float> states(Floats& all, std::size_t window) const {
    return all.view().middle_rows(window * windows_.context(), windows_.context());
  }

  void run(ForwardPass& pass, std::size_t window, Span2d<float> x) {
    const auto tokens = windows_.window(window);
    const Piece piece{tokens, &cache_, 0};
    pass.run_layer(layer_, {&piece, 1}, x);
  }

  Result<void> next_layer() {
    std::vector<PackedMatrix> packed;
    LayerWeights& original = original_.weights().layers[layer_];
    LayerWeights& quantized = quantized_.weights().layers[layer_];
    for (Projection* p : projections_of(original))
      for (MatrixView& m : p->matrices)
        if (can_pack(m.type)) {
          auto made = PackedMatrix::pack(m);
          if (!made) return fail(made.error());
          m = made->view();
          packed.push_back(std::move(*made));
        }
    const auto rows = quantized;  // as in the file
    quantized = original;

    std::array<InputMoments, kProjections> moments;
    std::array<Floats, kProjections> x, y;
    const auto capture = [&](ForwardPass& pass, std::array<Floats, kProjections>& inputs) {
      pass.observer = [&](std::string_view name, Span2d<const float> input) {
        const auto ps = projections_of(quantized);
        for (std::size_t p = 0; p < kProjections; ++p)
          if (ps[p]->names.front() == name) transpose(input, inputs[p]);
      };
    };
    capture(original_, x);
    capture(quantized_, y);
    Floats scratch;
    for (std::size_t i = 0; i < windows_.count(); ++i) {
      run(original_, i, states(x_, i));
      scratch.resize(windows_.context(), width_);
      const auto from = states(y_, i);
      std::copy_n(from.data, scratch.values.size(), scratch.values.data());
      run(quantized_, i, scratch.view());
      for (std::size_t p = 0; p < kProjections; ++p) moments[p].add(x[p], y[p]);
    }
    original_.observer = {};
    quantized_.observer = {};

    const auto sources = rows;
    for (std::size_t p = 0; p < kProjections; ++p) {
      auto feedback = ErrorFeedback::prepare(moments[p].own().view(), env("KQ_DAMP", 0.01));
      if (!feedback) return fail(feedback.error());
      LayerWeights from = sources;
      const Projection& source = *projections_of(from)[p];
      Projection& target = *projections_of(quantized)[p];
      for (std::size_t m = 0; m < source.matrices.size(); ++m) {
        auto ok = quantize(source.matrices[m], source.names[m], *feedback, moments[p], target.matrices[m], packed);
        if (!ok) return ok;
      }
    }
    for (std::size_t i = 0; i < windows_.count(); ++i) run(quantized_, i, states(y_, i));
    ++layer_;
    return {};
  }

  Result<void> quantize(const MatrixView& source, const std::string& name, const ErrorFeedback& feedback,
                        InputMoments& moments, MatrixView& target, std::vector<PackedMatrix>& packed) {
    const TensorType type = target_.at(name);
    if (type == source.type) return {};
    Floats w;
    w.resize(source.rows, source.cols);
    if (auto ok = dequantize(source.type, {source.data, source.bytes()}, w.view()); !ok) return ok;
    if (env("KQ_FOLLOW", 1) > 0)
      if (auto ok = feedback.follow(moments.cross().view(), w.view(), static_cast<float>(env("KQ_FOLLOW", 1))); !ok) return ok;
    std::vector<std::byte> bytes(source.rows * row_bytes(type, source.cols));
    const QuantizeOptions options{{}, options_.threads, effort_};
    if (auto ok = feedback.quantize(type, w.view(), bytes, options); !ok)
      return fail(ok.error(), fmt::format("{}: tensor '{}'", file_.path().string(), name));
    const MatrixView view{type, source.rows, source.cols, bytes.data()};
    if (can_pack(type)) {
      auto made = PackedMatrix::pack(view);
      if (!made) return fail(made.error());
      target = made->view();
      packed.push_back(std::move(*made));
    } else {
      target = view;
    }
    done_[name] = std::move(bytes);
    return {};
  }

  const gguf::File& file_;
  Windows windows_;
  const QuantizeModelOptions& options_;
  Effort effort_;
  std::size_t width_, layer_ = 0;
  ForwardPass original_, quantized_;
  KvCache cache_;
  std::map<std::string, TensorType> target_;
  std::map<std::string, std::size_t> layer_of_;
  Floats x_, y_;  ///< states of all tokens before layer_, of the model and of its quantized twin
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
  auto layers = Calibration::create(in, *plan, text, options, calibration);
  if (!layers) return fail(layers.error());
  QuantizeModelOptions with = options;
  with.encoder = [&](const PlannedTensor& tensor) { return (*layers)->packed(tensor.name); };
  return quantize_model(in, out, recipe, with);
}

}  // namespace kquant
