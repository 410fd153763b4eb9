// Byte 0: type (bits 0-5), effort (bit 6), with an importance (bit 7); the rest: floats to be
// quantized, and blocks to be dequantized.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "fuzz/fuzz.hpp"
#include "kquant/format/info.hpp"
#include "kquant/quantize.hpp"

namespace {

using namespace kquant;

void dequantize_blocks(TensorType type, std::span<const std::byte> bytes) {
  const TypeInfo& info = type_info(type);
  const std::size_t cols = bytes.size() / info.block_bytes * info.block_size;
  if (cols == 0) return;
  // On the heap, and not longer than the blocks.
  const std::vector<std::byte> blocks(
      bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(row_bytes(type, cols)));
  std::vector<float> out(cols);
  const auto done = dequantize(type, blocks, {out.data(), 1, cols});
  fuzz::require(done.has_value(), "any blocks can be dequantized");
}

void quantize_floats(TensorType type, Effort effort, bool weighted,
                     std::span<const std::byte> bytes) {
  const std::size_t block = type_info(type).block_size;
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), floats.size() * sizeof(float));
  const std::size_t rows = floats.size() >= 4 * block ? 2 : 1;
  const std::size_t cols = floats.size() / rows / block * block;
  if (cols == 0) return;
  QuantizeOptions options{.importance = {}, .threads = 1, .effort = effort};
  if (weighted) options.importance = std::span(floats).last(cols);

  const Span2d<const float> in(floats.data(), rows, cols);
  std::vector<std::byte> packed(rows * row_bytes(type, cols));
  const auto done = quantize(type, in, packed, options);
  const auto finite = [](float x) { return std::isfinite(x); };
  const bool good = std::all_of(floats.begin(),
                                floats.begin() + static_cast<std::ptrdiff_t>(rows * cols), finite);
  if (!done) {
    fuzz::check(done.error());
    fuzz::require(!good || weighted, "finite weights can be quantized");
    return;
  }
  fuzz::require(good, "a NaN or Inf is an error");
  std::vector<float> out(rows * cols);
  fuzz::require(dequantize(type, packed, {out.data(), rows, cols}).has_value(),
                "what was quantized can be dequantized");
  const auto error = measure_error(type, in, packed, options);
  fuzz::require(error.has_value(), "the error of what was quantized can be measured");
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t choice = data[0] & 0x3fu;
  const Effort effort = (data[0] & 0x40u) != 0 ? Effort::kBest : Effort::kFast;
  const bool weighted = (data[0] & 0x80u) != 0;
  const auto types = std::span(detail::kTypes);
  const TensorType type = types[choice % types.size()].type;
  if (!can_quantize(type)) return 0;
  const auto rest = fuzz::as_bytes(data + 1, size - 1);
  dequantize_blocks(type, rest);
  quantize_floats(type, effort, weighted, rest);
  return 0;
}
