// The public entry: checks, threads, and the format's encoder for every block.

#include "kquant/quantize.hpp"

#include <omp.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "activation_encoder.hpp"
#include "encoder.hpp"
#include "kquant/dispatch.hpp"
#include "kquant/format/all.hpp"
#include "rounding.hpp"
#include "shape_check.hpp"

namespace kquant {
namespace {

bool is_finite(float x) {
  return (std::bit_cast<std::uint32_t>(x) & 0x7f800000u) != 0x7f800000u;
}

bool all_finite(const float* x, std::size_t n) {
  std::uint32_t bad = 0;
  for (std::size_t i = 0; i < n; ++i) bad |= is_finite(x[i]) ? 0u : 1u;
  return bad == 0;
}

/// Plain types and activations: rounded one by one.
template <class F>
bool encode_plainly(const detail::RowsToEncode& in) {
  for (std::size_t row = 0; row < in.rows; ++row) {
    const float* x = in.x + row * in.stride;
    std::byte* out = in.out + row * in.out_stride;
    if (!all_finite(x, in.cols)) return false;
    if constexpr (PlainFormat<F>) {
      for (std::size_t k = 0; k < in.cols; ++k, out += sizeof(typename F::Element)) {
        // The largest finite element instead of an infinity.
        typename F::Element element = F::element(x[k]);
        if (!is_finite(F::value(element))) {
          if constexpr (requires { element.bits; }) --element.bits;
        }
        std::memcpy(out, &element, sizeof element);
      }
    } else {
      for (std::size_t k = 0; k < in.cols; k += F::kBlock, out += sizeof(typename F::Block)) {
        const auto block = detail::encode_activations<F>(x + k);
        std::memcpy(out, &block, sizeof block);
      }
    }
  }
  return true;
}

detail::EncodeRows encoder_of(TensorType type) {
  if (detail::EncodeRows weights = detail::find_encoder(type)) return weights;
  detail::EncodeRows found = nullptr;
  const auto take = [&]<class F>() { found = &encode_plainly<F>; };
  if (!ActivationFormats::visit(type, take)) PlainFormats::visit(type, take);
  return found;
}

/// False where a weight is a NaN or an infinity.
bool encode_all(TensorType type, Span2d<const float> in, std::span<std::byte> out,
                const QuantizeOptions& options) {
  // Pieces of rows, so that one long row keeps all threads busy as well; and several rows, because
  // what depends on the columns is prepared once for them.
  constexpr std::size_t kCols = 1024, kRows = 16;
  const detail::EncodeRows encode = encoder_of(type);
  const bool weighted = detail::is_weighted(options);
  const std::size_t bytes = row_bytes(type, in.cols);
  const std::size_t across = (in.cols + kCols - 1) / kCols, down = (in.rows + kRows - 1) / kRows;
  const auto count = static_cast<std::int64_t>(across * down);
  const int threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  bool good = true;
#pragma omp parallel for schedule(dynamic) num_threads(threads) reduction(&& : good)
  for (std::int64_t i = 0; i < count; ++i) {
    const std::size_t row = static_cast<std::size_t>(i) / across * kRows;
    const std::size_t col = static_cast<std::size_t>(i) % across * kCols;
    const std::size_t rows = std::min(kRows, in.rows - row), cols = std::min(kCols, in.cols - col);
    const float* x = in.data + row * in.stride + col;
    good = encode({x, in.stride, rows, cols, weighted ? options.importance.data() + col : nullptr,
                   options.importance_floor, options.effort, options.unbiased,
                   out.data() + row * bytes + row_bytes(type, col), bytes}) &&
           good;
  }
  return good;
}

}  // namespace

detail::EncodeRows detail::find_encoder(TensorType type) {
  switch (current_isa()) {
#if defined(__x86_64__) && !defined(KQUANT_SCALAR_ONLY)
    case Isa::kAvx512Vnni:
      return find_encoder_16(type);
    case Isa::kAvx2:
      return find_encoder_8(type);
#endif
    default:
      return find_encoder_4(type);
  }
}

bool can_quantize(TensorType type) {
  const TypeInfo* info = find_type(static_cast<std::uint32_t>(type));
  return info && info->support != Support::kOpaque;
}

Result<void> quantize(TensorType type, Span2d<const float> in, std::span<std::byte> out,
                      const QuantizeOptions& options) {
  if (auto ok = detail::check_request(type, in, out, options); !ok) return ok;
  if (!encode_all(type, in, out, options)) return detail::check_finite(in);
  return {};
}

}  // namespace kquant
