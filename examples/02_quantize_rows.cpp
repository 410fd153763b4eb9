// 02: float rows to every format and back, with the error each one costs.

#include <fmt/format.h>

#include <random>
#include <vector>

#include "kquant/format/all.hpp"
#include "kquant/quantize.hpp"

int main() {
  using namespace kquant;
  constexpr std::size_t kRows = 64, kCols = 4096;
  std::vector<float> weights(kRows * kCols);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  for (float& w : weights) w = normal(random);
  const Span2d<const float> rows(weights.data(), kRows, kCols);

  fmt::print("{} x {} gaussian weights\n{:<6} {:>10} {:>12} {:>12}\n", kRows, kCols, "format",
             "bits each", "bytes", "rel. RMSE");
  bool failed = false;
  WeightFormats::for_each([&]<class F>() {
    std::vector<std::byte> packed(kRows * row_bytes(F::type, kCols));
    const auto done = quantize(F::type, rows, packed);
    const auto error =
        done ? measure_error(F::type, rows, packed) : Result<QuantizationError>(fail(done.error()));
    if (!error) {
      fmt::print(stderr, "{}: {}\n", F::name, error.error().message);
      failed = true;
      return;
    }
    fmt::print("{:<6} {:>10.4f} {:>12} {:>12.6f}\n", F::name, type_info(F::type).bits_per_weight(),
               packed.size(), error->rel_rmse());
  });
  return failed ? 1 : 0;
}
