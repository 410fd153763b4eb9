// Activations to int8, row after row and in tiles: codes, scales and sums are those of the
// definition (kernels/activations.hpp), on every ISA.

#include <cfloat>
#include <cmath>
#include <limits>

#include "every_isa.hpp"

using namespace kquant;
using kernels::ActivationKind;

namespace {

struct Group {
  float scale;
  std::vector<int> codes;
  int sum(std::size_t first, std::size_t count) const {
    int sum = 0;
    for (std::size_t i = first; i < first + count; ++i) sum += codes[i];
    return sum;
  }
};

/// By the definition, a number at a time.
Group defined(const float* x, std::size_t n) {
  Group group{0.0f, std::vector<int>(n, 0)};
  float most = 0.0f;
  for (std::size_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) return {std::nanf(""), group.codes};
    most = std::max(most, std::fabs(x[i]));
  }
  if (most / 127.0f < FLT_MIN) return group;
  group.scale = most / 127.0f;
  const float inverse = 1.0f / group.scale;
  for (std::size_t i = 0; i < n; ++i)
    group.codes[i] = static_cast<int>(std::nearbyint(x[i] * inverse));
  return group;
}

bool same(float a, float b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

/// Rows of what is to be told apart: numbers, and groups of zeros, of dust, with NaN and with Inf.
std::vector<float> all_sorts(std::size_t rows, std::size_t cols) {
  std::vector<float> x = test::random_floats(rows * cols, 7);
  const auto fill = [&](std::size_t row, std::size_t from, std::size_t n, float value) {
    for (std::size_t i = from; i < from + n && i < cols; ++i) x[row % rows * cols + i] = value;
  };
  fill(0, 32, 32, 0.0f);
  fill(1, 256, 256, -0.0f);
  fill(2, 0, 256, 1e-39f);
  fill(3, 70, 1, std::nanf(""));
  fill(4, 255, 1, -std::numeric_limits<float>::infinity());
  fill(5, 31, 1, 3e38f);
  return x;
}

constexpr ActivationKind kKinds[] = {ActivationKind::kInt8Per256, ActivationKind::kInt8Per32};

std::size_t group_of(ActivationKind kind) {
  return kind == ActivationKind::kInt8Per32 ? 32 : 256;
}

/// The groups of a row.
std::vector<Group> groups_of(const float* row, std::size_t cols, std::size_t group) {
  std::vector<Group> groups;
  for (std::size_t at = 0; at < cols; at += group) groups.push_back(defined(row + at, group));
  return groups;
}

}  // namespace

TEST_CASE("tiles of activations are what the definition says") {
  for (const ActivationKind kind : kKinds) {
    const std::size_t group = group_of(kind), cols = group == 32 ? 2 * 256 + 96 : 3 * 256;
    for (const std::size_t rows : {1u, 6u, 67u}) {
      const std::size_t tile = rows == 67 ? 34 : rows, n_groups = cols / group;
      const std::vector<float> x = all_sorts(rows, cols);
      test::for_each_isa([&](Isa) {
        const std::size_t n_sums = group == 32 ? 1 : kernels::kSumsPerSuper;
        std::vector<std::int8_t> codes(rows * cols, 99);
        std::vector<float> scales(rows * n_groups, 99.0f);
        std::vector<std::int16_t> sums(rows * n_groups * n_sums, 99);
        const kernels::TiledActivations out{rows,         cols,          tile,
                                            codes.data(), scales.data(), sums.data()};
        // In parts that begin and end within tiles, as threads share them.
        const auto run = kernels::table().tile[static_cast<std::size_t>(kind)];
        run(x.data(), cols, 0, rows / 2, out);
        run(x.data(), cols, rows / 2, rows - rows / 2, out);
        for (std::size_t m = 0; m < rows; ++m) {
          const std::size_t first = m / tile * tile, w = std::min(tile, rows - first);
          const auto groups = groups_of(x.data() + m * cols, cols, group);
          INFO("group of " << group << ", row " << m << " of " << rows);
          bool right = true;
          for (std::size_t i = 0; i < cols; ++i)
            right &= codes[first * cols + (i / 32 * w + m - first) * 32 + i % 32] ==
                     groups[i / group].codes[i % group];
          CHECK(right);
          for (std::size_t g = 0; g < n_groups; ++g) {
            const std::size_t at = first * n_groups + g * w + m - first;
            CHECK(same(scales[at], groups[g].scale));
            if (group == 32) {
              CHECK(sums[at] == groups[g].sum(0, 32));
              continue;
            }
            // Within every four, 0 2 1 3.
            const auto place = [](std::size_t j) { return j / 4 * 4 + (j % 2) * 2 + j % 4 / 2; };
            for (std::size_t j = 0; j < 16; ++j)
              CHECK(sums[at * 24 + place(j)] == groups[g].sum(16 * j, 16));
            for (std::size_t j = 0; j < 8; ++j)
              CHECK(sums[at * 24 + 16 + place(j)] == groups[g].sum(32 * j, 32));
          }
        }
      });
    }
  }
}

TEST_CASE("rows of activations are what the definition says, and zeros complete them") {
  for (const ActivationKind kind : kKinds) {
    const std::size_t group = group_of(kind), rows = 6;
    const std::size_t cols = group == 32 ? 2 * 256 + 96 : 3 * 256, padded = 3 * 256;
    const std::vector<float> x = all_sorts(rows, cols);
    test::for_each_isa([&](Isa isa) {
      const bool flipped = group == 32 && isa == Isa::kAvx512Vnni;  // a + 128
      std::vector<std::uint8_t> codes(rows * padded, 99);
      std::vector<float> scales(rows * padded / group, 99.0f),
          scaled_sums(rows * padded / 32, 99.0f);
      std::vector<std::int16_t> sums(rows * padded / 16, 99);
      kernels::table().quantize[static_cast<std::size_t>(kind)](x.data(), cols, cols, 0, rows,
                                                                {.rows = rows,
                                                                 .padded = padded,
                                                                 .codes = codes.data(),
                                                                 .scales = scales.data(),
                                                                 .scaled_sums = scaled_sums.data(),
                                                                 .sums16 = sums.data()});
      for (std::size_t m = 0; m < rows; ++m) {
        INFO("group of " << group << ", row " << m);
        std::vector<float> row(padded, 0.0f);
        std::copy_n(x.data() + m * cols, cols, row.data());
        const auto groups = groups_of(row.data(), padded, group);
        bool right = true;
        for (std::size_t i = 0; i < padded; ++i)
          right &= static_cast<std::int8_t>(codes[m * padded + i] ^ (flipped ? 0x80 : 0)) ==
                   groups[i / group].codes[i % group];
        CHECK(right);
        for (std::size_t g = 0; g < groups.size(); ++g) {
          const std::size_t at = m * groups.size() + g;
          CHECK(same(scales[at], groups[g].scale));
          if (group == 32)
            CHECK(
                same(scaled_sums[at], groups[g].scale * static_cast<float>(groups[g].sum(0, 32))));
          else
            for (std::size_t j = 0; j < 16; ++j)
              CHECK(sums[at * 16 + j] == groups[g].sum(16 * j, 16));
        }
      }
    });
  }
}
