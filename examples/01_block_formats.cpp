// 01: a block format is a small struct. This program needs only kquant::format (headers, no
// library): it fills one Q4_K block by hand, reads it back, and lists every format.

#include <cstdio>

#include "kquant/format/all.hpp"

int main() {
  using kquant::Q4_K;

  // 256 weights: codes 0 … 15, eight sub-blocks with scales 1 … 8 and mins 0 … 7.
  Q4_K::Block block{};
  kquant::ScaleWords<8> scales{};
  for (int sub = 0; sub < 8; ++sub) {
    scales.set_scale(sub, sub + 1);
    scales.set_min(sub, sub);
  }
  Q4_K::pack_scales(scales, block);
  Q4_K::set_d(block, 0.01f, 0.02f);
  for (int run = 0; run < kquant::kRuns<Q4_K>; ++run)
    for (int i = 0; i < Q4_K::kRun; ++i)
      kquant::put_code<Q4_K>(kquant::bytes_of<Q4_K>(block), run, i, i % 16);

  float values[Q4_K::kBlock];
  kquant::dequantize_block<Q4_K>(block, values);
  std::printf("weight 35 (sub-block 1, code 3): (d * 2) * 3 - dmin * 1 = %.4f\n\n",
              static_cast<double>(values[35]));

  std::printf("%-6s %8s %8s %10s %6s %5s\n", "format", "weights", "bytes", "bits each", "scales",
              "mins");
  kquant::WeightFormats::for_each([]<class F>() {
    std::printf("%-6.*s %8d %8zu %10.4f %6d %5s\n", static_cast<int>(F::name.size()),
                F::name.data(), F::kBlock, sizeof(typename F::Block),
                kquant::type_info(F::type).bits_per_weight(), kquant::kSubs<F>,
                F::kHasMin ? "yes" : "-");
  });
  return 0;
}
