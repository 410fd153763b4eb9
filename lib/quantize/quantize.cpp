// The public entry: checks, threads, and the format's encoder for every block.

#include "kquant/quantize.hpp"

#include <fmt/format.h>
#include <omp.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

#include "activation_encoder.hpp"
#include "block_encoder.hpp"
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

template <class F>
constexpr int group_size() {
  if constexpr (PlainFormat<F>)
    return 1;
  else
    return F::kBlock;
}

/// One block, or one element of a plain type.
template <class F>
void encode(const float* x, const float* importance, std::byte* out) {
  if constexpr (PlainFormat<F>) {
    // The largest finite element instead of an infinity.
    typename F::Element element = F::element(*x);
    if (!is_finite(F::value(element))) {
      if constexpr (requires { element.bits; }) --element.bits;
    }
    std::memcpy(out, &element, sizeof element);
  } else {
    typename F::Block block;
    if constexpr (detail::ActivationFormat<F>)
      block = detail::encode_activations<F>(x);
    else
      block = detail::BlockEncoder<F>(x, importance).encode();
    std::memcpy(out, &block, sizeof block);
  }
}

/// Index (row * cols + column) of the first NaN or Inf, or of none.
template <class F>
std::size_t encode_all(Span2d<const float> in, const float* importance, std::byte* out,
                       int threads) {
  constexpr std::size_t kGroup = group_size<F>();
  constexpr std::size_t kBytes = type_info(F::type).block_bytes;
  constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
  // Pieces of rows rather than rows, so that one long row keeps all threads busy as well.
  constexpr std::size_t kPiece = 1024;
  const std::size_t pieces = (in.cols + kPiece - 1) / kPiece;
  const auto count = static_cast<std::int64_t>(in.rows * pieces);
  std::size_t bad = kNone;
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads) reduction(min : bad)
  for (std::int64_t i = 0; i < count; ++i) {
    const std::size_t row = static_cast<std::size_t>(i) / pieces;
    const std::size_t first = static_cast<std::size_t>(i) % pieces * kPiece;
    const std::size_t last = first + kPiece < in.cols ? first + kPiece : in.cols;
    const float* x = in.data + row * in.stride;
    if (!all_finite(x + first, last - first)) {
      std::size_t at = first;
      while (is_finite(x[at])) ++at;
      bad = row * in.cols + at < bad ? row * in.cols + at : bad;
      continue;
    }
    std::byte* to = out + (row * in.cols + first) / kGroup * kBytes;
    for (std::size_t at = first; at < last; at += kGroup, to += kBytes)
      encode<F>(x + at, importance ? importance + at : nullptr, to);
  }
  return bad;
}

}  // namespace

bool can_quantize(TensorType type) {
  const TypeInfo* info = find_type(static_cast<std::uint32_t>(type));
  return info && info->support != Support::kOpaque;
}

Result<void> quantize(TensorType type, Span2d<const float> in, std::span<std::byte> out,
                      const QuantizeOptions& options) {
  if (!can_quantize(type))
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("quantize: cannot write {}", detail::type_name(type)));
  if (auto ok = detail::check_shape("quantize", type, in.rows, in.cols, in.stride, out.size()); !ok)
    return ok;
  if (auto ok = detail::check_options("quantize", in.cols, options); !ok) return ok;

  const float* importance = options.importance.empty() ? nullptr : options.importance.data();
  const int threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  std::size_t bad = 0;
  const auto run = [&]<class F>() { bad = encode_all<F>(in, importance, out.data(), threads); };
  if (!WeightFormats::visit(type, run) && !ActivationFormats::visit(type, run))
    PlainFormats::visit(type, run);
  if (bad != std::numeric_limits<std::size_t>::max())
    return fail(ErrorCode::kBadData,
                fmt::format("row {}, column {}: {} cannot be quantized", bad / in.cols,
                            bad % in.cols, in.data[bad / in.cols * in.stride + bad % in.cols]));
  return {};
}

}  // namespace kquant
