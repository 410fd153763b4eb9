// A program of somebody who uses kquant: every public target must be usable from outside.

#include <cstdio>
#include <vector>

#include "kquant/eval/perplexity.hpp"
#include "kquant/format/all.hpp"
#include "kquant/gguf.hpp"
#include "kquant/quantize.hpp"

int main() {
  std::vector<float> row(256, 0.5f);
  std::vector<std::byte> packed(kquant::row_bytes(kquant::TensorType::Q4_K, 256));
  const auto done = kquant::quantize(kquant::TensorType::Q4_K, {row.data(), 1, 256}, packed);
  const auto missing = kquant::gguf::File::open("no such file.gguf");
  if (!done || missing || kquant::perplexity == nullptr) return 1;
  std::printf("%s\n", missing.error().message.c_str());
  return 0;
}
