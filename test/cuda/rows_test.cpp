// Row-wise operations and rotation on the device against double precision.
#include <cmath>

#include "cuda/rotate.cuh"
#include "cuda/rows.cuh"
#include "device_memory.hpp"
#include "kernels/every_isa.hpp"

using namespace kquant;
using namespace kquant::cuda;
using test::size;
using test::to_device;
using test::to_host;

namespace {

/// Rows of halves whose memory was poisoned.
struct Halves {
  Buffer data, scale;
  HalfRows rows;

  Halves(const Device& device, int n, int cols, RowOrder order = RowOrder::kRows)
      : data(to_device(device, std::vector<std::uint16_t>(
                                   size((order == RowOrder::kTiles ? (n + 127) / 128 * 128 : n) *
                                        padded(cols)),
                                   0x7e00))),
        scale(to_device(device, std::vector<float>(size(n), NAN))),
        rows{data.as<std::uint16_t>(), scale.as<float>(), cols, padded(cols), order} {}
  static int padded(int cols) { return (cols + 255) / 256 * 256; }

  /// Compares with expected (n x cols): each row within 2^-11 of itself, zeros beyond.
  void check(const Device& device, const std::vector<double>& expected) const {
    const auto halves = to_host<std::uint16_t>(device, data);
    const auto scales = to_host<float>(device, scale);
    for (std::size_t row = 0; row < scales.size(); ++row) {
      double most = 0;
      for (int i = 0; i < rows.cols; ++i)
        most = std::max(most, std::fabs(expected[row * size(rows.cols) + size(i)]));
      for (int i = 0; i < rows.padded; ++i) {
        const Half half{halves[rows.at(static_cast<int>(row), i)]};
        if (i >= rows.cols) {
          REQUIRE(half.bits == 0);
          continue;
        }
        const double want = expected[row * size(rows.cols) + size(i)];
        const double got = double{to_float(half)} * double{scales[row]};
        REQUIRE(std::fabs(got - want) <= std::fabs(want) * 0x1p-10 + most * 1e-6);
      }
    }
  }
};

std::vector<double> norm_of(std::span<const double> x, std::span<const float> weight, double eps) {
  double squares = 0;
  for (const double v : x) squares += v * v;
  std::vector<double> out;
  for (std::size_t i = 0; i < x.size(); ++i)
    out.push_back(x[i] / std::sqrt(squares / static_cast<double>(x.size()) + eps) *
                  static_cast<double>(weight[i]));
  return out;
}

}  // namespace

TEST_CASE("rows of any size become halves", "[small]") {
  const auto device = test::device();
  if (!device) return;
  for (const auto& [cols, order] : {std::pair(1, RowOrder::kRows),
                                    {31, RowOrder::kTiles},
                                    {256, RowOrder::kRows},
                                    {700, RowOrder::kRows},
                                    {700, RowOrder::kTiles},
                                    {2500, RowOrder::kRows}}) {
    std::vector<float> x;
    for (const float factor : {0.0f, 1e-30f, 1e-4f, 1.0f, 3e5f, 1e30f}) {
      const auto row = test::random_floats(size(cols), 3, factor);
      x.insert(x.end(), row.begin(), row.end());
    }
    const Buffer from = to_device(*device, x);
    const Halves to(*device, 6, cols, order);
    device->queue()->launch(rows_launch(6, cols), convert_rows<>,
                            Convert{from.as<float>(), to.rows});
    to.check(*device, {x.begin(), x.end()});
  }
}

TEST_CASE("in tiles every number has a place of its own, where wgmma looks for it") {
  constexpr int kRows = 256, kCols = 512;
  const HalfRows rows{.cols = kCols, .padded = kCols, .order = RowOrder::kTiles};
  std::vector<int> seen(kRows * kCols);
  for (int row = 0; row < kRows; ++row)
    for (int col = 0; col < kCols; ++col) {
      const std::size_t at = rows.at(row, col);
      REQUIRE(at < seen.size());
      REQUIRE(seen[at]++ == 0);
      // Which of the 16 columns of a product's operand this is, by the swizzle …
      const auto byte = static_cast<int>(at % (kTileTokens * kTileColumns) * 2);
      const int swizzled = byte ^ (byte >> 7 & 7) << 4;
      REQUIRE(swizzled / 128 == row % kTileTokens);
      const int product = swizzled % 128 / 32, k = swizzled % 32 / 2;
      // … and which column of W the lane has there whose fragment it meets (unpack.hpp).
      const int lane = k % 8 / 2, pair = product % 2 * 2 + k / 8;
      const auto step =
          static_cast<int>(at / (kTileTokens * kTileColumns)) % (kCols / kTileColumns);
      REQUIRE(lane * kQuarter + (step % kSteps * kStepChunks + product / 2) * kChunk + pair * 2 +
                  k % 2 ==
              col % kUnitCols);
      REQUIRE(step / kSteps == col / kUnitCols);
    }
}

TEST_CASE("norms, with and without what is added before, of all rows and of some", "[small]") {
  const auto device = test::device();
  if (!device) return;
  constexpr int kRows = 5;
  const int kCols = GENERATE(333, 1100);  // a block's threads depend on it
  constexpr float kEps = 1e-5f;
  const auto x = test::random_floats(kRows * kCols, 1),
             branch = test::random_floats(kRows * kCols, 2);
  const auto weight = test::random_floats(kCols, 3), post = test::random_floats(kCols, 4);
  const std::vector<int> some{4, 1};
  test::in_every_order([&] {
    for (const bool with_branch : {false, true})
      for (const bool with_post : {false, true})
        for (const bool of_some : {false, true}) {
          if (with_post && !with_branch) continue;
          const int n = of_some ? 2 : kRows;
          const Buffer x_on = to_device(*device, x), branch_on = to_device(*device, branch);
          const Buffer weight_on = to_device(*device, weight), post_on = to_device(*device, post);
          const Buffer some_on = to_device(*device, some);
          const Buffer exact = to_device(*device, std::vector<float>(size(n * kCols), NAN));
          const Halves out(*device, n, kCols);
          device->queue()->launch(rows_launch(n, kCols), norm_rows<>,
                                  Norm{.x = x_on.as<float>(),
                                       .branch = with_branch ? branch_on.as<float>() : nullptr,
                                       .post_weight = with_post ? post_on.as<float>() : nullptr,
                                       .weight = weight_on.as<float>(),
                                       .eps = kEps,
                                       .row_of = of_some ? some_on.as<int>() : nullptr,
                                       .out = out.rows,
                                       .exact = exact.as<float>()});
          std::vector<double> expected, sums;
          for (int i = 0; i < n; ++i) {
            const auto first = size((of_some ? some[size(i)] : i) * kCols);
            std::vector<double> row(x.begin() + static_cast<long>(first),
                                    x.begin() + static_cast<long>(first) + kCols);
            std::vector<double> b(branch.begin() + static_cast<long>(first),
                                  branch.begin() + static_cast<long>(first) + kCols);
            if (with_post) b = norm_of(b, post, double{kEps});
            if (with_branch)
              for (std::size_t c = 0; c < row.size(); ++c) row[c] += b[c];
            sums.insert(sums.end(), row.begin(), row.end());
            const auto normed = norm_of(row, weight, double{kEps});
            expected.insert(expected.end(), normed.begin(), normed.end());
          }
          out.check(*device, expected);
          const auto floats = to_host<float>(*device, exact), after = to_host<float>(*device, x_on);
          for (int i = 0; i < n; ++i)
            for (int c = 0; c < kCols; ++c) {
              const auto at = size(i * kCols + c);
              REQUIRE(std::fabs(double{floats[at]} - expected[at]) <
                      1e-5 * (1 + std::fabs(expected[at])));
              REQUIRE(std::fabs(double{after[size((of_some ? some[size(i)] : i) * kCols + c)]} -
                                sums[at]) < 1e-5);
            }
        }
  });
}

TEST_CASE("gated activations and soft caps", "[small]") {
  const auto device = test::device();
  if (!device) return;
  constexpr int kRows = 3, kCols = 290;
  const auto gate_up = test::random_floats(kRows * 2 * kCols, 6, 4.0f);
  const Buffer from = to_device(*device, gate_up);
  for (const bool gelu : {false, true}) {
    const Halves out(*device, kRows, kCols);
    device->queue()->launch(rows_launch(kRows, kCols), gate_rows<>,
                            Gate{from.as<float>(), gelu, out.rows});
    std::vector<double> expected;
    for (int row = 0; row < kRows; ++row)
      for (int c = 0; c < kCols; ++c) {
        const double g = double{gate_up[size(row * 2 * kCols + c)]};
        const double up = double{gate_up[size(row * 2 * kCols + kCols + c)]};
        const double inner = std::sqrt(2 / 3.14159265358979) * (g + 0.044715 * g * g * g);
        expected.push_back((gelu ? 0.5 * g * (1 + std::tanh(inner)) : g / (1 + std::exp(-g))) * up);
      }
    out.check(*device, expected);
  }
  const Buffer x = to_device(*device, gate_up);
  device->queue()->launch(soft_cap_launch(gate_up.size()), soft_cap<>,
                          SoftCap{x.as<float>(), gate_up.size(), 3.0f});
  const auto capped = to_host<float>(*device, x);
  for (std::size_t i = 0; i < capped.size(); ++i)
    REQUIRE(std::fabs(double{capped[i]} - 3 * std::tanh(double{gate_up[i]} / 3)) < 1e-5);
}

TEST_CASE("heads are normed, rotated and stored", "[small]") {
  const auto device = test::device();
  if (!device) return;
  for (const bool neox : {false, true}) {
    constexpr int kHeads = 3, kKvHeads = 1, kDim = 44, kPairs = 16, kCapacity = 9, kRows = 2;
    constexpr float kEps = 1e-6f;
    const KvLayout kv{1, kKvHeads, kDim, kDim, false};
    constexpr int kWidth = (kHeads + 2 * kKvHeads) * kDim;
    const auto qkv = test::random_floats(kRows * kWidth, 8), norm = test::random_floats(kDim, 9);
    auto cache = Buffer::allocate(device->queue(), kv.bytes(kCapacity), "test");
    REQUIRE(cache);
    const std::vector<RowPlace> places{{cache->as<>(), kCapacity, 0, 5, 0},
                                       {cache->as<>(), kCapacity, 0, 2, 1}};
    std::vector<float> table(2 * kCapacity * kPairs * 2);
    for (std::size_t i = 0; i < table.size(); i += 2) {
      table[i] = std::cos(static_cast<float>(i));
      table[i + 1] = std::sin(static_cast<float>(i));
    }
    const Buffer qkv_on = to_device(*device, qkv), norm_on = to_device(*device, norm);
    const Buffer table_on = to_device(*device, table), places_on = to_device(*device, places);
    const int padded = kv.padded_k();
    const Buffer q =
        to_device(*device, std::vector<std::uint16_t>(size(kRows * kHeads * padded), 0x7e00));
    device->queue()->launch(
        {.x = kRows,
         .y = (kHeads + 2 * kKvHeads + kRotateWarps - 1) / kRotateWarps,
         .threads = kRotateWarps * kWarp,
         .shared = kRotateShared},
        rotate_and_store<>,
        Rotate{.qkv = qkv_on.as<float>(),
               .q_heads = kHeads,
               .kv = kv,
               .layer = 0,
               .rows = places_on.as<RowPlace>(),
               .q_norm = norm_on.as<float>(),
               .k_norm = nullptr,
               .eps = kEps,
               .q_scale = 0.5f,
               .rope = {table_on.as<float>(), table_on.as<float>() + kCapacity * kPairs * 2},
               .pairs = kPairs,
               .neox = neox,
               .q = q.as<std::uint16_t>()});
    const auto q_found = to_host<std::uint16_t>(*device, q);
    const auto cache_found = to_host<std::byte>(*device, *cache);
    for (int row = 0; row < kRows; ++row)
      for (int head = 0; head < kHeads + 2 * kKvHeads; ++head) {
        std::vector<double> x(kDim);
        for (int d = 0; d < kDim; ++d)
          x[size(d)] = double{qkv[size(row * kWidth + head * kDim + d)]};
        if (head < kHeads) x = norm_of(x, norm, double{kEps});
        if (head < kHeads + kKvHeads)
          for (int p = 0; p < kPairs; ++p) {
            const int i = neox ? p : 2 * p, j = neox ? p + kPairs : 2 * p + 1;
            const auto at =
                size(((row == 1 ? kCapacity : 0) + places[size(row)].position) * kPairs + p) * 2;
            const double c = double{table[at]}, s = double{table[at + 1]};
            const double xi = x[size(i)], xj = x[size(j)];
            x[size(i)] = xi * c - xj * s;
            x[size(j)] = xi * s + xj * c;
          }
        for (int d = 0; d < padded; ++d) {
          Half half{};
          if (head < kHeads) {
            half.bits = q_found[size((row * kHeads + head) * padded + d)];
          } else {
            const std::size_t codes = head < kHeads + kKvHeads ? kv.key_codes(0, 0, kCapacity)
                                                               : kv.value_codes(0, 0, kCapacity);
            std::memcpy(&half,
                        cache_found.data() + codes +
                            size(places[size(row)].position) * kv.code_bytes(kDim) + 2 * size(d),
                        2);
          }
          const double want = d < kDim ? x[size(d)] * (head < kHeads ? 0.5 : 1.0) : 0.0;
          REQUIRE(std::fabs(double{to_float(half)} - want) <= std::fabs(want) * 0x1p-10 + 1e-5);
        }
      }
  }
}
