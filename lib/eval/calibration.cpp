#include "kquant/eval/calibration.hpp"

#include <fmt/format.h>

#include <vector>

#include "eval/windows.hpp"

namespace kquant {
namespace {

/// Sums run over rows in order for each column, whatever the number of threads.
void sum_of_squares(Span2d<const float> x, std::vector<float>& sums) {
  sums.resize(x.cols);
#pragma omp parallel for
  for (std::size_t col = 0; col < x.cols; ++col) {
    double sum = 0;
    for (std::size_t row = 0; row < x.rows; ++row) {
      const double value = x.data[row * x.stride + col];
      sum += value * value;
    }
    sums[col] = static_cast<float>(sum);
  }
}

/// Takes the observer away again, however the collection ends.
struct Observation {
  Transformer& model;
  ~Observation() { model.observe({}); }
};

}  // namespace

Result<Imatrix> collect_imatrix(Transformer& model, std::string_view text,
                                const CalibrationOptions& options) {
  const auto windows = Windows::cut(model.tokenizer(), text, options.context, options.chunks);
  if (!windows) return fail(windows.error());

  Imatrix imatrix;
  Result<void> added;
  std::vector<float> sums;
  const Observation observation{model};
  model.observe([&](std::string_view tensor, Span2d<const float> x) {
    if (!added) return;
    sum_of_squares(x, sums);
    added = imatrix.add(tensor, sums, static_cast<float>(x.rows));
  });
  KvCache cache(model.config(), options.context);
  for (std::size_t i = 0; i < windows->count(); ++i) {
    cache.clear();
    if (auto done = model.forward(windows->window(i), cache, {}); !done) return fail(done.error());
    if (!added) return fail(added.error());
    if (options.progress &&
        !options.progress(static_cast<int>(i + 1), static_cast<int>(windows->count())))
      return fail(ErrorCode::kInvalidArgument, "interrupted");
  }
  for (const auto& [name, entry] : imatrix.entries())
    if (const auto checked = imatrix.importance(name); !checked)
      return fail(checked.error(), model.file().path().string());
  imatrix.chunk_count = static_cast<std::uint32_t>(windows->count());
  imatrix.chunk_size = static_cast<std::uint32_t>(options.context);
  return imatrix;
}

}  // namespace kquant
