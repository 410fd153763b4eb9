#include "shape_check.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace kquant::detail {

std::string type_name(TensorType type) {
  const auto id = static_cast<std::uint32_t>(type);
  const TypeInfo* info = find_type(id);
  return info ? std::string(info->name) : fmt::format("type {}", id);
}

Result<void> check_shape(std::string_view who, TensorType type, std::size_t rows, std::size_t cols,
                         std::size_t stride, std::size_t bytes) {
  const TypeInfo& info = type_info(type);
  if (cols % info.block_size != 0)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} columns are not whole blocks of {} ({} weights each)", who,
                            cols, info.name, info.block_size));
  if (rows > 1 && stride < cols)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: rows of {} columns overlap at stride {}", who, cols, stride));
  std::size_t expected = 0;
  if (__builtin_mul_overflow(cols / info.block_size, std::size_t{info.block_bytes}, &expected) ||
      __builtin_mul_overflow(expected, rows, &expected))
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} x {} weights are more than memory can hold", who, rows, cols));
  if (bytes != expected)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} x {} weights of {} take {} bytes, not {}", who, rows, cols,
                            info.name, expected, bytes));
  return {};
}

Result<void> check_finite(Span2d<const float> rows, std::size_t first_row) {
  for (std::size_t r = 0; r < rows.rows; ++r)
    for (std::size_t k = 0; k < rows.cols; ++k)
      if (const float x = rows.row(r)[k]; !std::isfinite(x))
        return fail(ErrorCode::kBadData,
                    fmt::format("row {}, column {}: {} cannot be quantized", first_row + r, k, x));
  return {};
}

Result<void> check_options(std::string_view who, std::size_t cols, const QuantizeOptions& options) {
  if (options.threads < 0)
    return fail(ErrorCode::kInvalidArgument, fmt::format("{}: {} threads", who, options.threads));
  if (!(options.importance_floor >= 1e-6f && options.importance_floor <= 1e6f))
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: an importance floor of {} is not within 1e-6 and 1e6", who,
                            options.importance_floor));
  const std::span<const float> importance = options.importance;
  if (importance.empty()) return {};
  if (importance.size() != cols)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{}: {} importances for {} columns", who, importance.size(), cols));
  for (std::size_t k = 0; k < cols; ++k)
    if (!(importance[k] >= 0.0f && importance[k] <= 3.40282347e38f))
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{}: importance of column {} is {}, not finite and non-negative", who,
                              k, importance[k]));
  return {};
}

bool is_weighted(const QuantizeOptions& options) {
  return std::ranges::any_of(options.importance, [](float v) { return v > 0; });
}

Result<void> check_request(TensorType type, Span2d<const float> in, std::span<std::byte> out,
                           const QuantizeOptions& options) {
  if (!can_quantize(type))
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("quantize: cannot write {}", type_name(type)));
  if (auto ok = check_shape("quantize", type, in.rows, in.cols, in.stride, out.size()); !ok)
    return ok;
  return check_options("quantize", in.cols, options);
}

}  // namespace kquant::detail
