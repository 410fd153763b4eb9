#include "cuda/matrix.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "cuda/format_kernels.hpp"
#include "cuda/layout.hpp"

namespace kquant::cuda {
namespace {

int divided_up(std::size_t n, int unit) {
  return static_cast<int>((n + static_cast<std::size_t>(unit) - 1) /
                          static_cast<std::size_t>(unit));
}

/// Rows of X up to which blocks of 32 waste less than those of 128.
constexpr int kMostNarrow = 64;

/// What L2 gives while memory gives a byte, and what it would give while the sums of blocks that
/// share K are added up. On paper; gpu_bench measures what is not chosen, too.
constexpr double kL2OverMemory = 1.5, kBytesOfSums = 12e6;

/// Blocks that share K: where there would be less than one block an SM, two an SM or less, each
/// with two units at least.
int parts_of(const FormatKernels::Shape& shape, const DeviceInfo& device, std::size_t rows,
             std::size_t units, int columns) {
  const int blocks =
      divided_up(rows, shape.rows) * divided_up(static_cast<std::size_t>(columns), shape.columns);
  if (blocks >= device.multiprocessors) return 1;
  return std::max(1, std::min(2 * device.multiprocessors / blocks, static_cast<int>(units) / 2));
}

template <class... Fs>
const FormatKernels& kernels_among(TensorType type, FormatList<Fs...>) {
  const FormatKernels* found = nullptr;
  ((Fs::type == type ? void(found = &format_kernels<Fs>()) : void()), ...);
  return *found;
}

}  // namespace

std::string megabytes(std::size_t bytes) {
  return std::to_string((bytes + (1u << 20) - 1) >> 20) + " MiB";
}

const FormatKernels& format_kernels_of(TensorType type) {
  return kernels_among(type, DeviceFormats{});
}

Result<Buffer> Buffer::allocate(const std::shared_ptr<Queue>& queue, std::size_t bytes,
                                std::string_view what) {
  Buffer out;
  const auto p = queue->allocate(std::max<std::size_t>(bytes, 16));
  if (!p) {
    if (p.error().code != ErrorCode::kOutOfMemory) return fail(p.error());
    const auto free = queue->free_memory();
    return fail(ErrorCode::kOutOfMemory,
                "GPU " + std::to_string(queue->info().ordinal) + " (" + queue->info().name +
                    "): no memory for " + std::string(what) + ": " + megabytes(bytes) +
                    " are needed, " + (free ? megabytes(*free) : "none") + " of " +
                    megabytes(queue->info().memory) + " are free");
  }
  out.queue_ = queue;
  out.data_ = *p;
  out.bytes_ = bytes;
  return out;
}

std::size_t device_bytes(TensorType type, std::size_t rows, std::size_t cols) {
  return packed_bytes(type, rows, cols) + unit_rows_of(rows) * kUnitRows * sizeof(float);
}

Result<std::unique_ptr<DeviceMatrix::State>> upload(const std::shared_ptr<Queue>& queue,
                                                    std::span<const MatrixSlice> matrices) {
  const MatrixSlice& first = matrices.front();
  auto out = std::make_unique<DeviceMatrix::State>();
  out->type = device_type(first.type);
  out->cols = first.cols;
  out->units = units_of(first.cols);
  out->queue = queue;
  for (const MatrixSlice& w : matrices) out->rows += w.rows;
  const std::size_t unit_row_bytes = out->units * unit_bytes(first.type);
  const std::size_t n_unit_rows = unit_rows_of(out->rows);
  auto weights = Buffer::allocate(queue, n_unit_rows * unit_row_bytes, "weights");
  if (!weights) return fail(weights.error());
  auto row_scale = Buffer::allocate(queue, n_unit_rows * kUnitRows * sizeof(float), "weights");
  if (!row_scale) return fail(row_scale.error());

  // Rows beyond the last one of a matrix would be zeros in the middle of the next: only whole units
  // of 16 rows are put one below the other (the caller sees to it).
  std::size_t unit_row = 0;
  std::vector<std::byte> packed;
  std::vector<float> scales;
  for (const MatrixSlice& w : matrices) {
    packed.resize(unit_rows_of(w.rows) * unit_row_bytes);
    scales.resize(unit_rows_of(w.rows) * kUnitRows);
    pack(w, packed, scales);
    queue->copy_to_device(weights->as<>() + unit_row * unit_row_bytes, packed.data(),
                          packed.size());
    queue->copy_to_device(row_scale->as<float>() + unit_row * kUnitRows, scales.data(),
                          scales.size() * sizeof(float));
    if (auto done = queue->finish(); !done) return fail(done.error());
    unit_row += unit_rows_of(w.rows);
  }
  out->weights = std::move(*weights);
  out->row_scale = std::move(*row_scale);
  return out;
}

Result<ProductScratch> ProductScratch::make(const std::shared_ptr<Queue>& queue) {
  // Two blocks an SM, and of warpgroups one that leaves two of twice as many sums.
  const std::size_t block_sums = std::size_t{128} * 128 * (runs_hopper_code(queue->info()) ? 2 : 1);
  ProductScratch out;
  const auto n = static_cast<std::size_t>(2 * queue->info().multiprocessors);
  auto partial = Buffer::allocate(queue, n * block_sums * sizeof(float), "sums of products");
  if (!partial) return fail(partial.error());
  auto tickets = Buffer::allocate(queue, n * sizeof(unsigned), "sums of products");
  if (!tickets) return fail(tickets.error());
  queue->fill(tickets->as<>(), std::byte{0}, tickets->bytes());
  out.partial = std::move(*partial);
  out.tickets = std::move(*tickets);
  return out;
}

RowOrder row_order_for(const DeviceInfo& device, int rows) {
  return runs_hopper_code(device) && rows > kMostNarrow ? RowOrder::kTiles : RowOrder::kRows;
}

Blocks blocks_for(const DeviceInfo& device, TensorType type, std::size_t rows, std::size_t cols,
                  int columns) {
  const FormatKernels& kernels = format_kernels_of(device_type(type));
  const auto weights = static_cast<double>(packed_bytes(type, rows, cols));
  const auto x = static_cast<double>(units_of(cols) * kUnitCols * 2) * columns;
  const auto cost = [&](const FormatKernels::Shape& shape) {
    return std::max(kL2OverMemory * weights, weights + x * divided_up(rows, shape.rows));
  };
  const FormatKernels::Shape& many = kernels.many[0];
  const bool added_up = parts_of(many, device, rows, units_of(cols), columns) > 1;
  return cost(kernels.few) <= cost(many) + (added_up ? kBytesOfSums : 0) ? Blocks::kFew
                                                                         : Blocks::kMany;
}

void multiply(Queue& queue, const DeviceMatrix::State& w, const HalfRows& x, int columns,
              const Destination& to, const ProductScratch& scratch, Blocks blocks) {
  const FormatKernels& kernels = format_kernels_of(w.type);
  Product p{.weights = w.weights.as<>(),
            .row_scale = w.row_scale.as<float>(),
            .rows = static_cast<int>(w.rows),
            .units = static_cast<int>(w.units),
            .x = x.data,
            .x_scale = x.scale,
            .columns = columns,
            .y = to.y,
            .y_stride = to.stride,
            .bias = to.bias,
            .add = to.add,
            .partial = scratch.partial.as<float>(),
            .tickets = scratch.tickets.as<unsigned>()};
  Launch launch;
  const auto use = [&](const FormatKernels::Shape& shape) {
    launch.threads = shape.threads;
    launch.shared = shape.shared;
    launch.x = divided_up(w.rows, shape.rows);
    launch.y = divided_up(static_cast<std::size_t>(columns), shape.columns);
    return shape.kernel;
  };
  if (x.order == RowOrder::kTiles) {
    const auto kernel = use(kernels.warpgroup);
    p.division = divide(launch.x * launch.y, p.units, queue.info().multiprocessors);
    launch.x = p.division.blocks;
    launch.y = 1;
    return queue.launch(launch, kernel, p);
  }
  // Compute capability 8.6 and some others have 99 KB a block: many[0] fits, and serves in place of
  // what does not.
  const auto fits = [&](const FormatKernels::Shape& shape) {
    return shape.shared <= queue.info().shared_memory;
  };
  if (columns <= kMostFewColumns && fits(kernels.few)) {
    if (blocks == Blocks::kBest) blocks = blocks_for(queue.info(), w.type, w.rows, w.cols, columns);
    if (blocks == Blocks::kFew) return queue.launch(launch, use(kernels.few), p);
  }
  const auto& [blocks_of_16, blocks_of_32, blocks_of_128] = kernels.many;
  const FormatKernels::Shape& shape = columns > kMostNarrow && fits(blocks_of_128) ? blocks_of_128
                                      : columns > 16 && fits(blocks_of_32)         ? blocks_of_32
                                                                                   : blocks_of_16;
  launch.z = parts_of(shape, queue.info(), w.rows, w.units, columns);
  queue.launch(launch, use(shape), p);
}

Result<HalfRowsBuffer> HalfRowsBuffer::make(const std::shared_ptr<Queue>& queue, std::size_t rows,
                                            std::size_t cols) {
  const std::size_t padded = units_of(cols) * kUnitCols;
  const auto whole = static_cast<std::size_t>(divided_up(rows, kTileTokens) * kTileTokens);
  auto data = Buffer::allocate(queue, (runs_hopper_code(queue->info()) ? whole : rows) * padded * 2,
                               "activations");
  if (!data) return fail(data.error());
  auto scale = Buffer::allocate(queue, rows * sizeof(float), "activations");
  if (!scale) return fail(scale.error());
  HalfRowsBuffer out;
  out.rows = {data->as<std::uint16_t>(), scale->as<float>(), static_cast<int>(cols),
              static_cast<int>(padded)};
  out.data = std::move(*data);
  out.scale = std::move(*scale);
  return out;
}

const DeviceInfo& Device::info() const {
  return queue_->info();
}
Result<std::size_t> Device::free_memory() const {
  return queue_->free_memory();
}

DeviceMatrix::DeviceMatrix(std::unique_ptr<State> state) : state_(std::move(state)) {}
DeviceMatrix::DeviceMatrix(DeviceMatrix&&) noexcept = default;
DeviceMatrix& DeviceMatrix::operator=(DeviceMatrix&&) noexcept = default;
DeviceMatrix::~DeviceMatrix() = default;

Result<DeviceMatrix> DeviceMatrix::upload(const Device& device, const MatrixView& w) {
  const MatrixSlice all[] = {w};
  auto state = cuda::upload(device.queue(), all);
  if (!state) return fail(state.error());
  return DeviceMatrix(std::move(*state));
}
TensorType DeviceMatrix::type() const {
  return state_->type;
}
std::size_t DeviceMatrix::rows() const {
  return state_->rows;
}
std::size_t DeviceMatrix::cols() const {
  return state_->cols;
}
std::size_t DeviceMatrix::bytes() const {
  return state_->weights.bytes() + state_->row_scale.bytes();
}

Result<void> matmul(const DeviceMatrix& w, Span2d<const float> x, Span2d<float> y) {
  const DeviceInfo& device = w.state().queue->info();
  return matmul_in_order(row_order_for(device, static_cast<int>(x.rows)), w, x, y);
}

Result<void> matmul_in_order(RowOrder order, const DeviceMatrix& w, Span2d<const float> x,
                             Span2d<float> y, Blocks blocks) {
  const auto shape = [](std::size_t rows, std::size_t cols) {
    return std::to_string(rows) + " x " + std::to_string(cols);
  };
  if (x.cols != w.cols() || y.rows != x.rows || y.cols != w.rows())
    return fail(ErrorCode::kInvalidArgument, "matmul: X is " + shape(x.rows, x.cols) + " and Y " +
                                                 shape(y.rows, y.cols) + ", expected M x " +
                                                 std::to_string(w.cols()) + " and M x " +
                                                 std::to_string(w.rows()));
  if (x.rows == 0) return {};
  const std::shared_ptr<Queue>& queue = w.state().queue;
  auto scratch = ProductScratch::make(queue);
  if (!scratch) return fail(scratch.error());
  auto halves = HalfRowsBuffer::make(queue, x.rows, x.cols);
  if (!halves) return fail(halves.error());
  auto from = Buffer::allocate(queue, x.rows * x.cols * sizeof(float), "activations");
  if (!from) return fail(from.error());
  auto to = Buffer::allocate(queue, y.rows * y.cols * sizeof(float), "results");
  if (!to) return fail(to.error());
  for (std::size_t row = 0; row < x.rows; ++row)
    queue->copy_to_device(from->as<float>() + row * x.cols, x.row(row).data(),
                          x.cols * sizeof(float));
  halves->rows.order = order;
  queue->launch(rows_launch(static_cast<int>(x.rows), halves->rows.cols), convert_rows<>,
                Convert{from->as<float>(), halves->rows});
  multiply(*queue, w.state(), halves->rows, static_cast<int>(x.rows),
           {.y = to->as<float>(), .stride = y.cols}, *scratch, blocks);
  for (std::size_t row = 0; row < y.rows; ++row)
    queue->copy_to_host(y.row(row).data(), to->as<float>() + row * y.cols, y.cols * sizeof(float));
  return queue->finish();
}

Result<void> dequantize(const DeviceMatrix& w, NumberType type, void* out) {
  const DeviceMatrix::State& state = w.state();
  const std::size_t bytes = w.rows() * w.cols() * (type == NumberType::kF32 ? 4 : 2);
  auto to = Buffer::allocate(state.queue, bytes, "dequantized weights");
  if (!to) return fail(to.error());
  const Table table = state.table();
  state.queue->launch(dequantize_launch(table, static_cast<Numbers>(type)),
                      format_kernels_of(state.type).dequantize[static_cast<std::size_t>(type)],
                      table, to->as<>());
  state.queue->copy_to_host(out, to->as<>(), bytes);
  return state.queue->finish();
}

}  // namespace kquant::cuda
