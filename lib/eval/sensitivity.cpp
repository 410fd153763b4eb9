#include "kquant/eval/sensitivity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "eval/scores.hpp"
#include "eval/text_states.hpp"
#include "kquant/quantize.hpp"
#include "quantize/model_tensors.hpp"

namespace kquant {
namespace {

constexpr double kProbeBits = 3.5;
/// Logits of the model itself are kept: 64 Mi of them, 256 MiB.
constexpr std::size_t kMostLogits = std::size_t{1} << 26;

/// A model in which one tensor at a time is quantized.
class Probe {
 public:
  Probe(const Config& config, Weights weights, const Windows& windows)
      : width_(static_cast<std::size_t>(config.n_embd)),
        vocabulary_(static_cast<std::size_t>(config.vocab_size)),
        pass_(config, std::move(weights)),
        cache_(config, static_cast<int>(windows.context())),
        states_(windows, config.n_embd) {
    const std::size_t most = kMostLogits / (windows.count() * vocabulary_);
    scored_ = std::clamp<std::size_t>(most, 1, windows.context() / 2);
    reference_.resize(windows.count() * scored_ * vocabulary_);
    states_.embed(pass_, cache_);
    changed_ = reference_;
    logits(0, states_, reference_);
  }

  Weights& weights() { return pass_.weights(); }

  /// Moves on to the states after the layer they are before.
  void advance() { states_.run(pass_, cache_, layer_++); }

  /// Of the model as it is now from what it was. Where no layer was passed by yet and `embedding`,
  /// that counts as changed, too.
  double divergence(bool embedding) {
    TextStates states = states_;
    if (embedding) states.embed(pass_, cache_);
    logits(layer_, std::move(states), changed_);
    const std::size_t rows = reference_.size() / vocabulary_;
    std::vector<double> kl(rows);
#pragma omp parallel for schedule(dynamic)
    for (std::size_t r = 0; r < rows; ++r)
      kl[r] = compare({changed_.data() + r * vocabulary_, vocabulary_},
                      {reference_.data() + r * vocabulary_, vocabulary_}, 0)
                  .kl;
    return mean_of(kl).mean;
  }

 private:
  /// Of the last scored_ tokens of each window, from the states before layer `from`.
  void logits(std::size_t from, TextStates states, std::vector<float>& out) {
    for (std::size_t i = from; i < weights().layers.size(); ++i) states.run(pass_, cache_, i);
    std::vector<float> hidden(scored_ * width_);
    const Span2d<float> last(hidden.data(), scored_, width_);
    for (std::size_t i = 0; i < states.windows(); ++i) {
      pass_.finish(states.window(i).middle_rows(states.context() - scored_, scored_), last);
      pass_.project(last, {out.data() + i * scored_ * vocabulary_, scored_, vocabulary_});
    }
  }

  std::size_t width_, vocabulary_, scored_ = 0, layer_ = 0;
  ForwardPass pass_;
  KvCache cache_;
  TextStates states_;  ///< before layer_
  std::vector<float> reference_, changed_;
};

/// A tensor in another type, as the model would use it.
struct Quantized {
  std::vector<std::byte> bytes;
  PackedMatrix packed;
  MatrixView rows, view;

  static Result<Quantized> make(const MatrixView& source, TensorType type, bool unbiased) {
    std::vector<float> w(source.rows * source.cols);
    const Span2d<float> values(w.data(), source.rows, source.cols);
    Quantized q;
    q.bytes.resize(source.rows * row_bytes(type, source.cols));
    q.rows = q.view = {type, source.rows, source.cols, q.bytes.data()};
    if (auto ok = dequantize(source.type, {source.data, source.bytes()}, values); !ok)
      return fail(ok.error());
    if (auto ok = quantize(type, values, q.bytes, {.effort = Effort::kFast, .unbiased = unbiased});
        !ok)
      return fail(ok.error());
    if (can_pack(type)) {
      auto packed = PackedMatrix::pack(q.rows);
      if (!packed) return fail(packed.error());
      q.packed = std::move(*packed);
      q.view = q.packed.view();
    }
    return q;
  }
};

const TypeChoice& probe_of(const TensorChoices& tensor) {
  return *std::ranges::min_element(tensor.types, {}, [](const TypeChoice& choice) {
    return std::fabs(type_info(choice.type).bits_per_weight() - kProbeBits);
  });
}

}  // namespace

Result<void> measure_divergences(const gguf::File& in, std::string_view text, Choices& choices,
                                 const CalibrationOptions& calibration) {
  auto read = ModelAndText::read(in, text, calibration);
  if (!read) return fail(read.error());
  const bool tied = read->weights.output.names == read->weights.embedding.names;
  if (auto ok = pack_weights(in, read->weights); !ok) return ok;
  Probe probe(read->config, std::move(read->weights), read->windows);

  std::map<std::string, TensorChoices*> tensors;
  for (TensorChoices& tensor : choices.tensors) tensors[tensor.name] = &tensor;
  const auto total = static_cast<int>(tensors.size());
  int done = 0;

  const auto measure = [&](const std::string& name, MatrixView* rows,
                           MatrixView* product) -> Result<void> {
    const auto found = tensors.find(name);
    if (found == tensors.end()) return {};
    TensorChoices& tensor = *found->second;
    const TypeChoice& choice = probe_of(tensor);
    const gguf::Tensor& source = *in.find_tensor(name);
    auto quantized =
        Quantized::make({source.type, source.rows(), source.cols(), source.data.data()},
                        choice.type, detail::length_matters(in, name));
    if (!quantized) return fail(quantized.error(), detail::at_tensor(in, name));
    if (rows) std::swap(*rows, quantized->rows);
    if (product) std::swap(*product, quantized->view);
    const double nats = probe.divergence(rows != nullptr);
    if (rows) std::swap(*rows, quantized->rows);
    if (product) std::swap(*product, quantized->view);
    if (!std::isfinite(nats))
      return fail(ErrorCode::kBadData,
                  fmt::format("{}: logits that are not finite with '{}' as {}", in.path().string(),
                              name, type_info(choice.type).name));
    const double factor = choice.cost > 0 ? std::max(nats, 0.0) / choice.cost : 0;
    for (TypeChoice& type : tensor.types) type.cost *= factor;
    tensors.erase(found);
    if (calibration.progress && !calibration.progress(++done, total))
      return fail(ErrorCode::kInvalidArgument, "interrupted");
    return {};
  };

  Weights& w = probe.weights();
  if (auto ok = measure(w.embedding.names.front(), &w.embedding.matrices.front(),
                        tied ? &w.output.matrices.front() : nullptr);
      !ok)
    return ok;
  for (LayerWeights& layer : w.layers) {
    for (Projection* p : layer.projections())
      for (std::size_t m = 0; m < p->names.size(); ++m)
        if (auto ok = measure(p->names[m], nullptr, &p->matrices[m]); !ok) return ok;
    probe.advance();
  }
  if (!tied)
    if (auto ok = measure(w.output.names.front(), nullptr, &w.output.matrices.front()); !ok)
      return ok;
  if (!tensors.empty())
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: '{}' is no tensor that the model computes with",
                            in.path().string(), tensors.begin()->first));
  return {};
}

}  // namespace kquant
