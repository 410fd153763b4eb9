// Rows through a device, piece by piece, so that its memory does not bound them.

#include "cuda/quantize.hpp"

#include <algorithm>
#include <vector>

#include "cuda/format_kernels.hpp"
#include "cuda/runtime.hpp"
#include "kquant/format/all.hpp"
#include "quantize/shape_check.hpp"

namespace kquant::cuda {
namespace {

/// Rows of a matrix, some at a time.
class RowQuantizer {
 public:
  static Result<RowQuantizer> make(const Device& device, TensorType type,
                                   const QuantizeShape& shape, std::size_t most_rows,
                                   std::size_t cols, const QuantizeOptions& options) {
    RowQuantizer out;
    out.queue_ = device.queue();
    out.shape_ = shape;
    const auto at_once = static_cast<std::size_t>(out.shape_.weights);
    out.stride_ = (cols + at_once - 1) / at_once * at_once;
    out.row_bytes_ = row_bytes(type, cols);

    const auto allocate = [&](Buffer& to, std::size_t bytes) -> Result<void> {
      auto buffer = Buffer::allocate(out.queue_, bytes, "rows to quantize");
      if (!buffer) return fail(buffer.error());
      to = std::move(*buffer);
      return {};
    };
    if (auto ok = allocate(out.x_, most_rows * out.stride_ * sizeof(float)); !ok)
      return fail(ok.error());
    if (auto ok = allocate(out.packed_, most_rows * out.row_bytes_); !ok) return fail(ok.error());
    if (auto ok = allocate(out.importance_, out.stride_ * sizeof(float)); !ok)
      return fail(ok.error());
    if (auto ok = allocate(out.bad_, sizeof(int)); !ok) return fail(ok.error());

    const bool weighted = detail::is_weighted(options);
    const std::size_t block = type_info(type).block_size;
    std::vector<float> even(out.stride_, 1.0f);
    for (std::size_t at = 0; at < cols; at += block)
      out.shape_.even_out(weighted ? options.importance.data() + at : nullptr,
                          options.importance_floor, even.data() + at);
    out.queue_->copy_to_device(out.importance_.as<>(), even.data(), even.size() * sizeof(float));
    out.queue_->fill(out.x_.as<>(), std::byte{0}, out.x_.bytes());
    out.queue_->fill(out.bad_.as<>(), std::byte{0}, sizeof(int));
    out.arguments_ = {.x = out.x_.as<float>(),
                      .importance = out.importance_.as<float>(),
                      .stride = out.stride_,
                      .blocks = cols / block,
                      .out = out.packed_.as<>(),
                      .bad = out.bad_.as<int>(),
                      .plan = out.shape_.plan(options.effort, weighted)};
    out.arguments_.plan.unbiased = options.unbiased;
    if (auto done = out.queue_->finish(); !done) return fail(done.error());
    return out;
  }

  /// At most most_rows. False where a weight is a NaN or an infinity.
  Result<bool> quantize(Span2d<const float> in, std::byte* out) {
    if (in.cols == stride_ && in.stride == stride_)
      queue_->copy_to_device(x_.as<>(), in.data, in.rows * stride_ * sizeof(float));
    else
      for (std::size_t row = 0; row < in.rows; ++row)
        queue_->copy_to_device(x_.as<float>() + row * stride_, in.row(row).data(),
                               in.cols * sizeof(float));
    arguments_.rows = static_cast<int>(in.rows);
    const std::size_t weights =
        static_cast<std::size_t>(kQuantizeGroups) * static_cast<std::size_t>(shape_.weights);
    queue_->launch({.x = static_cast<int>((in.rows * stride_ + weights - 1) / weights),
                    .threads = kQuantizeThreads,
                    .shared = shape_.shared},
                   shape_.kernel, arguments_);
    int bad = 0;
    queue_->copy_to_host(&bad, bad_.as<>(), sizeof bad);
    queue_->copy_to_host(out, packed_.as<>(), in.rows * row_bytes_);
    if (auto done = queue_->finish(); !done) return fail(done.error());
    return bad == 0;
  }

 private:
  std::shared_ptr<Queue> queue_;
  QuantizeShape shape_;
  std::size_t stride_ = 0, row_bytes_ = 0;
  Buffer x_, importance_, packed_, bad_;
  RowsToQuantize arguments_;
};

}  // namespace

Result<void> quantize_by_pieces(const Device& device, TensorType type, Span2d<const float> in,
                                std::span<std::byte> out, const QuantizeOptions& options,
                                std::size_t piece_weights) {
  if (auto ok = detail::check_request(type, in, out, options); !ok) return ok;
  const QuantizeShape* shape = nullptr;
  WeightFormats::visit(type, [&]<class F>() { shape = &format_kernels<F>().quantize; });
  if (shape == nullptr) return kquant::quantize(type, in, out, options);
  if (in.rows == 0 || in.cols == 0) return {};
  const std::size_t at_once = std::clamp<std::size_t>(piece_weights / in.cols, 1, in.rows);
  auto quantizer = RowQuantizer::make(device, type, *shape, at_once, in.cols, options);
  if (!quantizer) return fail(quantizer.error());
  for (std::size_t row = 0; row < in.rows; row += at_once) {
    const auto rows = in.middle_rows(row, std::min(at_once, in.rows - row));
    const auto good = quantizer->quantize(rows, out.data() + row * row_bytes(type, in.cols));
    if (!good) return fail(good.error());
    if (!*good) return detail::check_finite(rows, row);
  }
  return {};
}

Result<void> quantize(const Device& device, TensorType type, Span2d<const float> in,
                      std::span<std::byte> out, const QuantizeOptions& options) {
  constexpr std::size_t kPieceWeights = std::size_t{1} << 24;  // 64 MiB of floats
  return quantize_by_pieces(device, type, in, out, options, kPieceWeights);
}

}  // namespace kquant::cuda
