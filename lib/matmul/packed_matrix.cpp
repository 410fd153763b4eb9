#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cstdlib>

#include "base/huge_pages.hpp"
#include "kernels/table.hpp"
#include "kquant/matmul.hpp"
#include "matmul/partition.hpp"

namespace kquant {

void PackedMatrix::Free::operator()(std::byte* p) const {
  std::free(p);
}

bool can_pack(TensorType type) {
  const auto* format = kernels::find(kernels::table(), type);
  return format != nullptr && format->pack_panel != nullptr;
}

Result<PackedMatrix> PackedMatrix::pack(const MatrixView& w) {
  const kernels::FormatKernels& format = *kernels::find(kernels::table(), w.type);
  constexpr std::size_t kRows = kernels::kPanelRows;
  const std::size_t n_panels = (w.rows + kRows - 1) / kRows;
  const std::size_t panel_bytes = format.panel_bytes(w.cols);

  PackedMatrix out;
  out.type_ = w.type;
  out.rows_ = w.rows;
  out.cols_ = w.cols;
  out.bytes_ = n_panels * panel_bytes;
  out.data_.reset(allocate_for_streams(out.bytes_));
  if (out.data_ == nullptr)
    return fail(ErrorCode::kOutOfMemory,
                fmt::format("no memory for {} x {} packed weights of type {}: {} bytes", w.rows,
                            w.cols, type_info(w.type).name, out.bytes_));
#pragma omp parallel
  {
    const auto [first, last] = part(w.rows, static_cast<std::size_t>(omp_get_thread_num()),
                                    static_cast<std::size_t>(omp_get_num_threads()), kRows);
    for (std::size_t row = first; row < last; row += kRows)
      format.pack_panel(w.row(row), row_bytes(w.type, w.cols), std::min(kRows, w.rows - row),
                        w.cols, out.data_.get() + row / kRows * panel_bytes);
  }
  return out;
}

}  // namespace kquant
