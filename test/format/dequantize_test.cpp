// The reference dequantization against what ggml's scalar code makes of the same blocks.

#include <catch2/catch.hpp>
#include <cstring>

#include "kquant/format/all.hpp"
#include "shared_data.hpp"

using namespace kquant;

namespace {

std::string golden_name(std::string_view format) {
  std::string lower(format);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return "golden/" + lower;
}

}  // namespace

TEST_CASE("every block format dequantizes its golden blocks bit for bit") {
  WeightFormats::for_each([]<class F>() {
    for (const char* variant : {"", ".imatrix"}) {
      const std::string stem = golden_name(F::name) + variant;
      const auto blocks_path = test::shared_path(stem + ".blocks");
      if (!blocks_path) return;
      INFO(stem);
      const auto bytes = test::read_bytes(*blocks_path);
      const auto expected = test::read_floats(*test::shared_path(stem + ".dequant.f32"));
      const std::size_t n_blocks = bytes.size() / sizeof(typename F::Block);
      REQUIRE(n_blocks * F::kBlock == expected.size());
      std::vector<typename F::Block> blocks(n_blocks);
      std::memcpy(blocks.data(), bytes.data(), bytes.size());
      std::vector<float> values(expected.size());
      for (std::size_t b = 0; b < n_blocks; ++b)
        dequantize_block<F>(blocks[b], values.data() + b * F::kBlock);
      CHECK(std::memcmp(values.data(), expected.data(), 4 * values.size()) == 0);
    }
  });
}

TEST_CASE("plain formats read their golden elements bit for bit") {
  FormatList<F16, BF16>::for_each([]<class F>() {
    const std::string stem = golden_name(F::name);
    const auto path = test::shared_path(stem + ".blocks");
    if (!path) return;
    INFO(stem);
    const auto bytes = test::read_bytes(*path);
    const auto expected = test::read_floats(*test::shared_path(stem + ".dequant.f32"));
    const auto input = test::read_floats(*test::shared_path("golden/input.f32"));
    std::vector<typename F::Element> elements(expected.size());
    REQUIRE(bytes.size() == elements.size() * sizeof(elements[0]));
    std::memcpy(elements.data(), bytes.data(), bytes.size());
    std::size_t wrong_value = 0, wrong_element = 0;
    for (std::size_t i = 0; i < elements.size(); ++i) {
      const float value = F::value(elements[i]);
      wrong_value += std::memcmp(&value, &expected[i], sizeof value) != 0;
      const typename F::Element element = F::element(input[i]);
      wrong_element += std::memcmp(&element, &elements[i], sizeof element) != 0;
    }
    CHECK(wrong_value == 0);
    CHECK(wrong_element == 0);
  });
}
