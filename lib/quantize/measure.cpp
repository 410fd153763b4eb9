// Back to floats, and how far they are from the original.

#include <fmt/format.h>
#include <omp.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kquant/format/all.hpp"
#include "kquant/quantize.hpp"
#include "shape_check.hpp"

namespace kquant {
namespace {

template <class F>
void decode_row(const std::byte* in, std::size_t cols, float* out) {
  if constexpr (PlainFormat<F>) {
    for (std::size_t k = 0; k < cols; ++k) {
      typename F::Element element;
      std::memcpy(&element, in + k * sizeof element, sizeof element);
      out[k] = F::value(element);
    }
  } else {
    for (std::size_t k = 0; k < cols; k += F::kBlock, in += sizeof(typename F::Block)) {
      typename F::Block block;
      std::memcpy(&block, in, sizeof block);
      dequantize_block<F>(block, out + k);
    }
  }
}

using DecodeRow = void (*)(const std::byte*, std::size_t, float*);

/// nullptr for a type that cannot be decoded.
DecodeRow find_decoder(TensorType type) {
  DecodeRow found = nullptr;
  const auto take = [&]<class F>() { found = &decode_row<F>; };
  if (!WeightFormats::visit(type, take) && !ActivationFormats::visit(type, take))
    PlainFormats::visit(type, take);
  return found;
}

QuantizationError compare_row(const float* x, const float* y, const float* importance,
                              std::size_t cols) {
  QuantizationError e;
  for (std::size_t k = 0; k < cols; ++k) {
    const double w = importance ? double{importance[k]} : 1.0;
    const double power = double{x[k]} * double{x[k]};
    const double off = double{x[k]} - double{y[k]};
    e.error += off * off;
    e.power += power;
    e.weighted_error += w * (off * off);
    e.weighted_power += w * power;
    e.max_abs = std::fabs(off) > e.max_abs ? std::fabs(off) : e.max_abs;
  }
  return e;
}

double relative(double error, double power) {
  return error == 0 ? 0.0 : std::sqrt(error / power);  // Inf where only the original is zero
}

}  // namespace

double QuantizationError::rel_rmse() const {
  return relative(error, power);
}
double QuantizationError::weighted_rel_rmse() const {
  return relative(weighted_error, weighted_power);
}

QuantizationError& QuantizationError::operator+=(const QuantizationError& other) {
  error += other.error;
  power += other.power;
  weighted_error += other.weighted_error;
  weighted_power += other.weighted_power;
  max_abs = other.max_abs > max_abs ? other.max_abs : max_abs;
  return *this;
}

Result<void> dequantize(TensorType type, std::span<const std::byte> in, Span2d<float> out) {
  const DecodeRow decode = find_decoder(type);
  if (!decode)
    return fail(ErrorCode::kUnsupported,
                fmt::format("dequantize: cannot read {}", detail::type_name(type)));
  if (auto ok = detail::check_shape("dequantize", type, out.rows, out.cols, out.stride, in.size());
      !ok)
    return ok;
  const std::size_t bytes = row_bytes(type, out.cols);
  const auto rows = static_cast<std::int64_t>(out.rows);
  // Small matrices are done before a second thread has woken up.
#pragma omp parallel for schedule(static) if (out.rows * out.cols >= (1u << 20))
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto row = static_cast<std::size_t>(r);
    decode(in.data() + row * bytes, out.cols, out.data + row * out.stride);
  }
  return {};
}

Result<QuantizationError> measure_error(TensorType type, Span2d<const float> original,
                                        std::span<const std::byte> packed,
                                        const QuantizeOptions& options) {
  const DecodeRow decode = find_decoder(type);
  if (!decode)
    return fail(ErrorCode::kUnsupported,
                fmt::format("measure_error: cannot read {}", detail::type_name(type)));
  if (auto ok = detail::check_shape("measure_error", type, original.rows, original.cols,
                                    original.stride, packed.size());
      !ok)
    return fail(ok.error());
  if (auto ok = detail::check_options("measure_error", original.cols, options); !ok)
    return fail(ok.error());

  const float* importance = options.importance.empty() ? nullptr : options.importance.data();
  const int threads = options.threads > 0 ? options.threads : omp_get_max_threads();
  const std::size_t bytes = row_bytes(type, original.cols);
  const auto rows = static_cast<std::int64_t>(original.rows);
  std::vector<QuantizationError> per_row(original.rows);
  std::vector<float> buffers(static_cast<std::size_t>(threads) * original.cols);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto row = static_cast<std::size_t>(r);
    float* y = buffers.data() + static_cast<std::size_t>(omp_get_thread_num()) * original.cols;
    decode(packed.data() + row * bytes, original.cols, y);
    per_row[row] = compare_row(original.data + row * original.stride, y, importance, original.cols);
  }
  QuantizationError total;
  for (const QuantizationError& e : per_row) total += e;
  return total;
}

}  // namespace kquant
