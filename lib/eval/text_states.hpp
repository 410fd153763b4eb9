#pragma once
// What a model makes of a text between two of its layers: a state of n_embd floats for each token.

#include <algorithm>
#include <vector>

#include "eval/windows.hpp"
#include "kquant/eval/calibration.hpp"
#include "model/forward.hpp"

namespace kquant {

/// A model's weights as they lie in its file, and a text in its tokens.
struct ModelAndText {
  Config config;
  Weights weights;
  Windows windows;

  /// Errors: those of Transformer::load() and Windows::cut().
  static Result<ModelAndText> read(const gguf::File& file, std::string_view text,
                                   const CalibrationOptions& calibration) {
    auto config = read_config(file);
    if (!config) return fail(config.error());
    auto weights = read_weights(file, *config);
    if (!weights) return fail(weights.error());
    const auto tokenizer = Tokenizer::load(file);
    if (!tokenizer) return fail(tokenizer.error());
    auto windows = Windows::cut(*tokenizer, text, calibration.context, calibration.chunks);
    if (!windows) return fail(windows.error());
    return ModelAndText{std::move(*config), std::move(*weights), std::move(*windows)};
  }
};

class TextStates {
 public:
  TextStates(const Windows& windows, int width)
      : windows_(&windows),
        width_(static_cast<std::size_t>(width)),
        values_(windows.count() * windows.context() * width_) {}

  std::size_t windows() const { return windows_->count(); }
  std::size_t context() const { return windows_->context(); }
  Span2d<float> window(std::size_t i) {
    return {values_.data() + i * context() * width_, context(), width_};
  }

  /// The states before the first layer.
  void embed(ForwardPass& pass, KvCache& cache) {
    for (std::size_t i = 0; i < windows(); ++i)
      on_piece(i, cache, [&](const Piece& piece) { pass.start({&piece, 1}, window(i)); });
  }

  /// Takes all windows, in place, through a layer.
  void run(ForwardPass& pass, KvCache& cache, std::size_t layer) {
    for (std::size_t i = 0; i < windows(); ++i)
      on_piece(i, cache, [&](const Piece& piece) {
        pass.run_layer(layer, {&piece, 1}, window(i));
      });
  }

 private:
  template <class Fn>
  void on_piece(std::size_t i, KvCache& cache, const Fn& fn) const {
    const std::vector<Token> tokens = windows_->window(i);
    fn(Piece{tokens, &cache, 0});
  }

  const Windows* windows_;
  std::size_t width_;
  std::vector<float> values_;
};

}  // namespace kquant
