// What products move, counted as their PTX runs.
#include "traffic.hpp"

#include "cuda/pack.hpp"
#include "cuda/row_order.hpp"
#include "kernels/every_isa.hpp"
#include "test/cuda/device.hpp"

using namespace kquant;

namespace {

constexpr std::size_t kRows = 512, kCols = 2048;

/// Bytes of device memory that the kernels of one product read and write.
std::size_t bytes_of_product(const cuda::DeviceMatrix& w, std::size_t m, cuda::RowOrder order,
                             cuda::Blocks blocks) {
  const auto x = test::random_floats(m * kCols, 5);
  std::vector<float> y(m * kRows);
  const ptx::TrafficCount count;
  REQUIRE(cuda::matmul_in_order(order, w, {x.data(), m, kCols}, {y.data(), m, kRows}, blocks));
  return 32 * count.total("_columns").sectors;
}

}  // namespace

TEMPLATE_TEST_CASE("products read weights once, and X once for each block of rows", "", Q2_K, Q3_K,
                   Q4_K, Q5_K, Q6_K, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, F16) {
  const auto device = test::device();
  REQUIRE(device);
  const auto bytes = test::random_weights<TestType>(kRows, kCols, 11);
  const auto w = cuda::DeviceMatrix::upload(*device, {TestType::type, kRows, kCols, bytes.data()});
  REQUIRE(w);
  const auto check = [&](std::size_t m, std::size_t rows_of_block, cuda::RowOrder order,
                         cuda::Blocks blocks) {
    INFO(m << " rows of X");  // scales of rows of W and X are a percent or two
    const std::size_t weights = cuda::packed_bytes(TestType::type, kRows, kCols),
                      x = m * kCols * 2 * kRows / rows_of_block, results = m * kRows * 4;
    const std::size_t moved = bytes_of_product(*w, m, order, blocks);
    CHECK(moved >= weights + x + results);
    CHECK(static_cast<double>(moved) < 1.03 * static_cast<double>(weights + x + results));
  };
  constexpr auto kInRows = cuda::RowOrder::kRows;
  const std::size_t part =
      TestType::type == TensorType::F16 ? 2 : 1;  // has blocks of half the rows
  for (const std::size_t m : {1u, 2u, 8u}) check(m, 32, kInRows, cuda::Blocks::kFew);
  for (const std::size_t m : {16u, 32u}) check(m, 128 / part, kInRows, cuda::Blocks::kMany);
  if (device->info().compute_major == 9)
    check(128, 256 / part, cuda::RowOrder::kTiles, cuda::Blocks::kBest);
}
