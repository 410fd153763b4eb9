// Products and dequantization on the device against sums in double precision.
#include <algorithm>
#include <cmath>

#include "cuda/row_order.hpp"
#include "device.hpp"
#include "kernels/every_isa.hpp"
#include "worst.hpp"

using namespace kquant;
using test::random_floats;

namespace {

constexpr float kPoison = 12345.0f;

/// ‖y - x W^T‖ of the worst row of X (some are much larger than others), in units of what sums of
/// the same products with random signs would have: a single sum may come out near zero.
double error_of(const MatrixView& w, Span2d<const float> x, Span2d<const float> y) {
  std::vector<float> weights(w.cols);
  std::vector<double> error(x.rows), norm(x.rows);
  for (std::size_t n = 0; n < w.rows; ++n) {
    dequantize_rows(w, n, {weights.data(), 1, w.cols});
    for (std::size_t m = 0; m < x.rows; ++m) {
      double sum = 0;
      for (std::size_t k = 0; k < w.cols; ++k) {
        const double product = static_cast<double>(weights[k]) * static_cast<double>(x.row(m)[k]);
        sum += product;
        norm[m] += product * product;
      }
      const double difference = sum - static_cast<double>(y.row(m)[n]);
      error[m] += difference * difference;
    }
  }
  double worst = 0;
  for (std::size_t m = 0; m < x.rows; ++m)
    worst = test::worse(worst, std::sqrt(error[m] / norm[m]));
  return worst;
}

template <class F>
void check_product(const cuda::Device& device, std::size_t m, std::size_t rows, std::size_t cols,
                   cuda::RowOrder order = cuda::RowOrder::kRows,
                   cuda::Blocks blocks = cuda::Blocks::kBest) {
  INFO(std::string(F::name) << " " << m << " x " << rows << " x " << cols);
  const auto bytes = test::random_weights<F>(rows, cols, 11);
  const MatrixView w{F::type, rows, cols, bytes.data()};
  const auto matrix = cuda::DeviceMatrix::upload(device, w);
  REQUIRE(matrix);
  auto x = random_floats(m * cols, 5, 3.0f);
  for (std::size_t i = 0; i < cols; i += 37) x[i] *= 1e5f;  // beyond binary16
  std::vector<float> y(m * rows, kPoison);
  const Span2d<const float> x_of(x.data(), m, cols);
  REQUIRE(cuda::matmul_in_order(order, *matrix, x_of, {y.data(), m, rows}, blocks));
  const double error = error_of(w, x_of, {y.data(), m, rows});
  REQUIRE(error < 1.5e-3);
}

template <class F>
void check_dequantization(const cuda::Device& device, std::size_t rows, std::size_t cols) {
  INFO(std::string(F::name) << " " << rows << " x " << cols);
  const auto bytes = test::random_weights<F>(rows, cols, 9);
  const MatrixView w{F::type, rows, cols, bytes.data()};
  const auto matrix = cuda::DeviceMatrix::upload(device, w);
  REQUIRE(matrix);
  std::vector<float> expected(rows * cols), found(rows * cols, kPoison);
  for (std::size_t r = 0; r < rows; ++r)
    dequantize_rows(w, r, {expected.data() + r * cols, 1, cols});
  REQUIRE(cuda::dequantize(*matrix, cuda::NumberType::kF32, found.data()));
  REQUIRE(found == expected);
  std::vector<Half> halves(rows * cols, Half{0x7bff});
  REQUIRE(cuda::dequantize(*matrix, cuda::NumberType::kF16, halves.data()));
  for (std::size_t i = 0; i < halves.size(); ++i)
    REQUIRE(halves[i].bits == to_half(expected[i]).bits);
  std::vector<BFloat16> brains(rows * cols, BFloat16{0x7f00});
  REQUIRE(cuda::dequantize(*matrix, cuda::NumberType::kBF16, brains.data()));
  for (std::size_t i = 0; i < brains.size(); ++i)
    REQUIRE(brains[i].bits == to_bfloat16(expected[i]).bits);
}

}  // namespace

TEMPLATE_TEST_CASE("products of every format, few columns", "", Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0,
                   Q4_0, Q4_1, Q5_0, Q5_1, F32, F16, BF16) {
  const auto device = test::device();
  if (!device) return;
  check_product<TestType>(*device, 1, 50, 1280);
  check_product<TestType>(*device, 3, 33, 256);
  check_product<TestType>(*device, 13, 17, 2560);
}

TEMPLATE_TEST_CASE("products of every format, many columns", "", Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0,
                   Q4_0, Q4_1, Q5_0, Q5_1, F32, F16, BF16) {
  const auto device = test::device();
  if (!device) return;
  check_product<TestType>(*device, 40, 130, 256);
  check_product<TestType>(*device, 130, 40, 768);
}

TEMPLATE_TEST_CASE("products of every format by warpgroups", "", Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0,
                   Q4_0, Q4_1, Q5_0, Q5_1, F32, F16, BF16) {
  const auto device = test::hopper();
  if (!device) return;
  check_product<TestType>(*device, 70, 270, 512, cuda::RowOrder::kTiles);
  check_product<TestType>(*device, 130, 40, 768, cuda::RowOrder::kTiles);
}

TEMPLATE_TEST_CASE("products of whole tiles", "[whole]", Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_0, Q4_0,
                   Q4_1, Q5_0, Q5_1, F16) {
  const auto device = test::device();
  if (!device) return;
  check_product<TestType>(*device, 8, 128, 2048, cuda::RowOrder::kRows, cuda::Blocks::kFew);
  for (const std::size_t m : {16u, 32u, 128u}) check_product<TestType>(*device, m, 128, 512);
  if (const auto with_warpgroups = test::hopper())
    check_product<TestType>(*with_warpgroups, 128, 256, 512, cuda::RowOrder::kTiles);
}

TEST_CASE("products of odd shapes by warpgroups, in every order", "[small]") {
  const auto device = test::hopper();
  if (!device) return;
  constexpr auto kTiles = cuda::RowOrder::kTiles;
  test::in_every_order([&] {
    check_product<Q4_0>(*device, 1, 31, 96, kTiles);
    check_product<Q4_K>(*device, 65, 1, 1024 + 256, kTiles);
    check_product<F16>(*device, 129, 129, 512, kTiles);
    check_product<Q6_K>(*device, 20, 129, 2560, kTiles);  // three blocks share a tile
  });
  check_product<F16>(*device, 260, 130, 3328, kTiles);  // four share six
}

TEMPLATE_TEST_CASE("products where shared memory is little", "", Q2_K, Q6_K, Q8_0, Q5_1, F16) {
  const auto device = test::little_shared_memory();
  if (!device) return;
  for (const std::size_t m : {1u, 16u, 40u, 130u}) check_product<TestType>(*device, m, 130, 512);
}

TEST_CASE("which rows of X are put in tiles") {
  using cuda::RowOrder;
  const auto order = [](int major, int minor, int rows) {
    cuda::DeviceInfo device;
    device.compute_major = major;
    device.compute_minor = minor;
    return cuda::row_order_for(device, rows);
  };
  REQUIRE(order(9, 0, 65) == RowOrder::kTiles);
  REQUIRE(order(9, 0, 64) == RowOrder::kRows);
  for (const auto& [major, minor] : {std::pair(8, 0), {8, 9}, {10, 0}, {12, 0}})
    REQUIRE(order(major, minor, 512) == RowOrder::kRows);
}

TEST_CASE("which blocks few rows of X get") {
  using cuda::Blocks;
  cuda::DeviceInfo device;
  device.multiprocessors = 132;
  const auto blocks = [&](TensorType type, std::size_t rows, std::size_t cols, int columns) {
    return cuda::blocks_for(device, type, rows, cols, columns);
  };
  for (const TensorType type : {TensorType::Q2_K, TensorType::Q8_0, TensorType::F16})
    REQUIRE(blocks(type, 57344, 8192, 1) == Blocks::kFew);  // X is nothing beside W
  REQUIRE(blocks(TensorType::Q4_K, 28672, 4096, 4) == Blocks::kFew);
  REQUIRE(blocks(TensorType::Q4_K, 28672, 4096, 8) == Blocks::kMany);  // as much of X as of W
  REQUIRE(blocks(TensorType::Q4_K, 4096, 4096, 8) == Blocks::kFew);    // sums would cost more
  REQUIRE(blocks(TensorType::Q8_0, 28672, 4096, 8) == Blocks::kFew);
  REQUIRE(blocks(TensorType::F32, 28672, 4096, 8) == Blocks::kFew);  // as F16
}

TEST_CASE("products of odd shapes, in every order", "[small]") {
  const auto device = test::device();
  if (!device) return;
  test::in_every_order([&] {
    for (const std::size_t m : {1u, 8u, 9u, 16u, 17u, 32u, 33u, 65u})
      check_product<Q4_0>(*device, m, 31, 96);
    check_product<Q4_K>(*device, 16, 1, 4096 + 256);
    check_product<Q6_K>(*device, 20, 129, 2048);  // K is divided among blocks
    check_product<Q3_K>(*device, 65, 257, 1024);
    check_product<Q8_0>(*device, 2, 64, 32);
    for (const std::size_t m : {1u, 8u})
      for (const auto blocks : {cuda::Blocks::kFew, cuda::Blocks::kMany})
        check_product<Q2_K>(*device, m, 50, 2560, cuda::RowOrder::kRows, blocks);
  });
}

TEST_CASE("the same product twice gives the same bits, also where K is divided") {
  for (const auto& device : {test::device(), test::hopper()}) {
    if (!device) continue;
    const auto bytes = test::random_weights<Q5_K>(64, 2560, 1);
    const auto matrix =
        cuda::DeviceMatrix::upload(*device, {TensorType::Q5_K, 64, 2560, bytes.data()});
    REQUIRE(matrix);
    for (const std::size_t m : {4u, 40u, 80u}) {
      const auto x = random_floats(m * 2560, 2);
      std::vector<std::vector<float>> results;
      test::in_every_order([&] {
        for (int repeat = 0; repeat < 2; ++repeat) {
          std::vector<float> y(m * 64, kPoison);
          REQUIRE(cuda::matmul(*matrix, {x.data(), m, 2560}, {y.data(), m, 64}));
          results.push_back(std::move(y));
        }
      });
      for (const auto& y : results) REQUIRE(y == results.front());
    }
  }
}

TEMPLATE_TEST_CASE("dequantization has the CPU's bits", "[small][whole]", Q2_K, Q3_K, Q4_K, Q5_K,
                   Q6_K, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, F16) {
  if (const auto device = test::device()) check_dequantization<TestType>(*device, 21, 768);
}
TEST_CASE("dequantization of rows that begin anywhere has the CPU's bits", "[small]") {
  const auto device = test::device();
  if (!device) return;
  check_dequantization<F16>(*device, 35, 37);
  check_dequantization<BF16>(*device, 3, 303);
  check_dequantization<Q8_0>(*device, 17, 32);
}

TEST_CASE("products of shapes that do not fit are refused") {
  const auto device = test::device();
  if (!device) return;
  const auto bytes = test::random_weights<Q4_K>(4, 256, 1);
  const auto matrix = cuda::DeviceMatrix::upload(*device, {TensorType::Q4_K, 4, 256, bytes.data()});
  REQUIRE(matrix);
  std::vector<float> x(512), y(8);
  const auto wrong = cuda::matmul(*matrix, {x.data(), 1, 512}, {y.data(), 1, 4});
  REQUIRE(!wrong);
  REQUIRE(wrong.error().code == ErrorCode::kInvalidArgument);
  REQUIRE(cuda::matmul(*matrix, {x.data(), 0, 256}, {y.data(), 0, 4}));
}
