// The order of weights on a device, and the arithmetic that takes them apart, against the scalar
// description of each format.
#include <cmath>
#include <numeric>
#include <set>

#include "cuda/attention.cuh"
#include "cuda/half_rows.hpp"
#include "cuda/lookup.cuh"
#include "cuda/many_columns.cuh"
#include "cuda/pack.hpp"
#include "device.hpp"
#include "kernels/every_isa.hpp"

using namespace kquant;
using namespace kquant::cuda;

TEST_CASE("a unit's places are a permutation of its weights, in every plane") {
  struct Plane {
    int bits, below;
  };
  for (const auto [bits, below] : {Plane{2, 0}, Plane{4, 0}, Plane{8, 0}, Plane{16, 0}, Plane{1, 2},
                                   Plane{1, 4}, Plane{2, 4}}) {
    std::set<int> taken;
    for (int row = 0; row < kUnitRows; ++row)
      for (int col = 0; col < kUnitCols; ++col) {
        const Place place = place_of(row, col);
        const Field at = field(bits, below, place.chunk, place.h, place.pair);
        const int byte = word_at(0, at, place.lane);
        const int bit = 8 * byte + at.bit + 16 * place.half;
        REQUIRE(byte % 4 == 0);
        REQUIRE(at.bit + bits <= 16);
        for (int b = 0; b < bits; ++b) REQUIRE(taken.insert(bit + b).second);
      }
    REQUIRE(*taken.rbegin() == kUnitRows * kUnitCols * bits - 1);
  }
}

TEST_CASE(
    "activations lie as the lanes that meet them read: of each lane's quarter 16 bytes at once") {
  const HalfRows x{.cols = 512, .padded = 512};
  for (int row = 0; row < kUnitRows; ++row)
    for (int col = 0; col < 512; ++col) {
      const Place place = place_of(row, col % kUnitCols);
      REQUIRE(place.lane / 4 + 8 * place.h == row);
      const int t = place.lane % 4, piece = place.chunk * 4 + t;
      REQUIRE(x.at(3, col) == static_cast<std::size_t>(3 * 512 + col / 256 * 256 + piece * 8 +
                                                       place.pair * 2 + place.half));
    }
}

namespace {
template <class F>
void check_mantissas() {
  for (int step = 0; step < kSteps; ++step)
    for (int h = 0; h < 2; ++h)
      REQUIRE(StepCodes<F>::bit_of(step, h) + DeviceLayout<F>::kBits <= 10);
}
}  // namespace

TEST_CASE("codes fit into mantissas where they are taken") {
  check_mantissas<Q2_K>();
  check_mantissas<Q3_K>();
  check_mantissas<Q4_K>();
  check_mantissas<Q5_K>();
  check_mantissas<Q6_K>();
  check_mantissas<Q8_0>();
}

namespace {
/// Groups of 8 lanes read 16 bytes each: their banks must differ.
template <class Fn>
void check_banks(const Fn& byte_of_lane) {
  for (int phase = 0; phase < 4; ++phase) {
    std::set<int> banks;
    for (int i = 0; i < 8; ++i) banks.insert(byte_of_lane(8 * phase + i) / 16 % 8);
    REQUIRE(banks.size() == 8);
  }
}
template <class Fn>
void check_permutation(int rows, int pieces, const Fn& byte_of) {
  std::set<int> taken;
  for (int row = 0; row < rows; ++row)
    for (int piece = 0; piece < pieces; ++piece) taken.insert(byte_of(row, piece));
  REQUIRE(taken.size() == static_cast<std::size_t>(rows * pieces));
  REQUIRE(*taken.begin() == 0);
  REQUIRE(*taken.rbegin() == 16 * (rows * pieces - 1));
}
}  // namespace

TEST_CASE("tiles in shared memory are permutations, and are read without bank conflicts") {
  check_permutation(128, 8, step_byte);
  check_permutation(kKeys, 16, key_byte<128>);
  check_permutation(kKeys, 8, value_byte<64>);
  check_permutation(AttentionShape<256>::kTileKeys, 32, value_byte<256>);
  for (int c = 0; c < 2; ++c)
    check_banks([&](int lane) { return step_byte(lane / 4, 4 * c + lane % 4); });
  for (int c = 0; c < 4; ++c)
    check_banks([&](int lane) { return key_byte<128>(lane / 4, 4 * c + lane % 4); });
  for (int j = 0; j < 16; j += 2)
    check_banks(
        [&](int lane) { return value_byte<128>(lane / 8 % 2 * 8 + lane % 8, j + lane / 16); });
}

namespace {
template <class F>
void check_unit() {
  constexpr std::size_t kRows = 13, kCols = F::kBlock == 256 ? 512 : 416;  // not whole units
  const auto bytes = test::random_weights<F>(kRows, kCols, 7);
  const MatrixView w{F::type, kRows, kCols, bytes.data()};
  std::vector<std::byte> units(packed_bytes(F::type, kRows, kCols));
  std::vector<float> row_scale(16), row(kCols);
  cuda::pack(w, units, row_scale);
  for (std::size_t r = 0; r < kRows; ++r) {
    dequantize_rows(w, r, {row.data(), 1, kCols});
    const int exponent = std::ilogb(row_scale[r]);
    REQUIRE(std::ldexp(1.0f, exponent) == row_scale[r]);
    for (std::size_t c = 0; c < kCols; ++c) {
      const std::byte* unit = units.data() + c / 256 * DeviceLayout<F>::kUnitBytes;
      const float exact = weight_in_unit<F>(unit, static_cast<int>(r), static_cast<int>(c % 256));
      REQUIRE(exact * row_scale[r] == row[c]);
    }
  }
  // The fragments of all lanes.
  const float step = 1.0f / 2048;
  for (std::size_t u = 0; u < units_of(kCols); ++u)
    for (int lane = 0; lane < 32; ++lane) {
      const std::byte* unit = units.data() + u * DeviceLayout<F>::kUnitBytes;
      for (int c = 0; c < kQuarter / kChunk; ++c) {
        const int s = c / kStepChunks;
        UnitReader<F> reader;
        reader.open(unit, lane);
        reader.load(unit, lane, s);
        const ChunkFragments w_of = reader.chunk(s, c % kStepChunks);
        for (int i = 0; i < 16; ++i) {
          const int h = i / 8, j = i % 8;
          const std::uint32_t word = w_of.a[j / 4][j % 4 / 2 * 2 + h];
          const float found = half_value(static_cast<std::uint16_t>(word >> (j % 2 * 16)));
          const int r = lane / 4 + 8 * h, col = lane % 4 * kQuarter + c * kChunk + j;
          const float exact = weight_in_unit<F>(unit, r, col);
          // Three roundings, of d * scale, dmin * min and the result.
          float bound = std::fabs(exact) * 2 * step;
          if (F::kHasMin) {
            const Half2 m = reader.rows[h].of_step(s, h).addend;
            bound += 3 * step * std::fabs(half_value(static_cast<std::uint16_t>(m.bits)));
          }
          REQUIRE(std::fabs(found - exact) <= bound + 1e-7f);
          if (static_cast<std::size_t>(r) >= kRows ||
              u * 256 + static_cast<std::size_t>(col) >= kCols)
            REQUIRE(found == 0);
        }
      }
    }
}
}  // namespace

TEMPLATE_TEST_CASE("units hold the weights of the file, exactly, and fragments nearly", "", Q2_K,
                   Q3_K, Q4_K, Q5_K, Q6_K, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1) {
  check_unit<TestType>();
}

TEST_CASE("dequantization of any number of rows is one launch") {
  constexpr int rows = 1 << 22, units = 3;
  const Table table{nullptr, nullptr, rows, units * kUnitCols, units};
  for (const auto numbers : {Numbers::kF32, Numbers::kF16, Numbers::kBf16}) {
    const Launch launch = dequantize_launch(table, numbers);
    REQUIRE((launch.y == 1 && launch.z == 1));  // beyond 65535 of these there is no launch
    REQUIRE(launch.x == rows / 16 * units / kDequantizeWarps);
  }
}

TEST_CASE("rows far from 1 in size keep their weights") {
  for (const float size : {1e-7f, 1e-4f, 1.0f, 300.0f}) {
    auto bytes = test::random_bytes(row_bytes(TensorType::Q4_K, 256), 3);
    Q4_K::Block block;
    std::memcpy(&block, bytes.data(), sizeof block);
    Q4_K::set_d(block, size, size / 3);
    std::memcpy(bytes.data(), &block, sizeof block);
    const MatrixView w{TensorType::Q4_K, 1, 256, bytes.data()};
    std::vector<std::byte> unit(packed_bytes(w.type, 1, 256));
    std::vector<float> row_scale(16), row(256);
    cuda::pack(w, unit, row_scale);
    dequantize_rows(w, 0, {row.data(), 1, 256});
    double error = 0, norm = 0;
    for (int lane = 0; lane < 4; ++lane) {  // row 0
      for (int c = 0; c < kQuarter / kChunk; ++c) {
        UnitReader<Q4_K> reader;
        reader.open(unit.data(), lane);
        reader.load(unit.data(), lane, c / kStepChunks);
        const ChunkFragments f = reader.chunk(c / kStepChunks, c % kStepChunks);
        for (int j = 0; j < 8; ++j) {
          const std::uint32_t word = f.a[j / 4][j % 4 / 2 * 2];
          const double found = half_value(static_cast<std::uint16_t>(word >> (j % 2 * 16))) *
                               static_cast<double>(row_scale[0]);
          const double expected = row[static_cast<std::size_t>(lane * kQuarter + c * kChunk + j)];
          error += (found - expected) * (found - expected);
          norm += expected * expected;
        }
      }
    }
    INFO(size);
    REQUIRE(norm > 0);
    REQUIRE(std::sqrt(error / norm) < 1e-3);
  }
}
