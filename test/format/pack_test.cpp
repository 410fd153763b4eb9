// Layouts as bijections: whatever bytes a block holds, unpacking and packing gives them back, and
// no two fields of a layout overlap.

#include <catch2/catch.hpp>
#include <cstring>
#include <random>

#include "kquant/format/all.hpp"

using namespace kquant;

TEST_CASE("packing inverts unpacking on random blocks") {
  WeightFormats::for_each([]<class F>() {
    INFO(F::name);
    std::mt19937 random(1);
    for (int repeat = 0; repeat < 200; ++repeat) {
      typename F::Block block;
      for (std::size_t i = 0; i < sizeof block; ++i)
        bytes_of<F>(block)[i] = static_cast<std::uint8_t>(random());
      typename F::Block copy{};
      for (int g = 0; g < kRuns<F>; ++g)
        for (int i = 0; i < F::kRun; ++i)
          put_code<F>(bytes_of<F>(copy), g, i, code_at<F>(bytes_of<F>(block), g, i));
      F::pack_scales(F::unpack_scales(block), copy);
      // d and dmin as bits: set_d goes through float, which would quieten a NaN.
      F::set_d(copy, 0.0f, 0.0f);
      typename F::Block masked = block;
      F::set_d(masked, 0.0f, 0.0f);
      REQUIRE(std::memcmp(&copy, &masked, sizeof copy) == 0);
    }
  });
}

TEST_CASE("codes lie in the range that kBits and kSigned promise, and reach its ends") {
  WeightFormats::for_each([]<class F>() {
    INFO(F::name);
    const int low = F::kSigned ? -(1 << (F::kBits - 1)) : 0;
    const int high = low + (1 << F::kBits) - 1;
    for (const auto& [fill, expected] :
         {std::pair{0x00, F::kSigned ? 0 : low}, std::pair{0xff, F::kSigned ? -1 : high}}) {
      typename F::Block block;
      std::memset(&block, fill, sizeof block);
      for (int g = 0; g < kRuns<F>; ++g)
        for (int i = 0; i < F::kRun; ++i) REQUIRE(code_at<F>(bytes_of<F>(block), g, i) == expected);
    }
  });
}

TEST_CASE("scale words keep every signed byte apart") {
  ScaleWords<16> words{};
  for (int j = 0; j < 16; ++j) {
    words.set_scale(j, 17 * j - 128);
    words.set_min(j, 127 - 17 * j);
  }
  for (int j = 0; j < 16; ++j) {
    CHECK(words.scale_at(j) == 17 * j - 128);
    CHECK(words.min_at(j) == 127 - 17 * j);
  }
}
