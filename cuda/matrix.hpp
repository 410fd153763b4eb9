#pragma once
// Matrices on a device, and how products with them are launched.

#include <string>
#include <vector>

#include "cuda/lookup.cuh"
#include "cuda/pack.hpp"
#include "cuda/product.hpp"
#include "cuda/row_order.hpp"
#include "cuda/rows.cuh"
#include "cuda/runtime.hpp"

namespace kquant::cuda {

struct DeviceMatrix::State {
  TensorType type = TensorType::F16;  ///< on the device
  std::size_t rows = 0, cols = 0, units = 0;
  std::shared_ptr<Queue> queue;
  Buffer weights, row_scale;

  Table table() const {
    return {weights.as<>(), row_scale.as<float>(), static_cast<int>(rows), static_cast<int>(cols),
            static_cast<int>(units)};
  }
};

/// As errors say it, rounded up.
std::string megabytes(std::size_t bytes);

/// Bytes of device memory that a matrix takes.
std::size_t device_bytes(TensorType type, std::size_t rows, std::size_t cols);

/// Matrices of one type and width, one below the other: a product with them is one launch.
Result<std::unique_ptr<DeviceMatrix::State>> upload(const std::shared_ptr<Queue>& queue,
                                                    std::span<const MatrixSlice> matrices);

/// Memory for sums of products whose K is divided among blocks.
class ProductScratch {
 public:
  static Result<ProductScratch> make(const std::shared_ptr<Queue>& queue);
  Buffer partial, tickets;
};

/// What is done with a product's results.
struct Destination {
  float* y = nullptr;
  std::size_t stride = 0;
  const float* bias = nullptr;
  bool add = false;
};

/// y[m][n] = sum over k of x[m][k] w[n][k], for M rows of X in any order; tiles: only on devices
/// for which row_order_for() may say so.
void multiply(Queue& queue, const DeviceMatrix::State& w, const HalfRows& x, int columns,
              const Destination& to, const ProductScratch& scratch, Blocks blocks = Blocks::kBest);

/// Memory for rows of binary16, in either order.
struct HalfRowsBuffer {
  Buffer data, scale;
  HalfRows rows;
  static Result<HalfRowsBuffer> make(const std::shared_ptr<Queue>& queue, std::size_t rows,
                                     std::size_t cols);
};

}  // namespace kquant::cuda
