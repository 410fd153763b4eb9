// Rows to floats on every ISA, bit for bit as the reference and as the golden vectors.

#include <cmath>

#include "every_isa.hpp"
#include "kquant/matmul.hpp"
#include "shared_data.hpp"

using namespace kquant;

namespace {

/// Same bits, or both NaN: which NaN comes out of two is the machine's choice.
bool same_float(float a, float b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

template <class F>
std::vector<float> reference(const std::vector<std::byte>& bytes, std::size_t n) {
  std::vector<float> out(n);
  if constexpr (BlockFormat<F>) {
    std::vector<typename F::Block> blocks(n / F::kBlock);
    std::memcpy(blocks.data(), bytes.data(), bytes.size());
    for (std::size_t b = 0; b < blocks.size(); ++b)
      dequantize_block<F>(blocks[b], out.data() + b * F::kBlock);
  } else {
    std::vector<typename F::Element> elements(n);
    std::memcpy(elements.data(), bytes.data(), bytes.size());
    for (std::size_t i = 0; i < n; ++i) out[i] = F::value(elements[i]);
  }
  return out;
}

std::string lower(std::string_view format) {
  std::string text(format);
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return text;
}

}  // namespace

TEST_CASE("dequantize_rows equals the reference on random bytes, and writes nothing else") {
  test::for_each_isa([](Isa) {
    test::for_each_format([]<class F>() {
      INFO(std::string(F::name));
      const std::size_t unit = type_info(F::type).block_size;
      for (const std::size_t cols : {unit, 3 * unit, 9 * unit, std::size_t{1024}, 37 * unit}) {
        const std::size_t rows = 5, gap = 3;
        const auto bytes = test::random_bytes(rows * row_bytes(F::type, cols), 7);
        const auto expected = reference<F>(bytes, rows * cols);
        const MatrixView w{F::type, rows, cols, bytes.data()};
        const float poison = -12345.0f;
        std::vector<float> out((rows + 1) * (cols + gap), poison);
        dequantize_rows(w, 1, Span2d<float>(out.data(), 3, cols, cols + gap));
        std::size_t wrong = 0, touched = 0;
        for (std::size_t r = 0; r < rows + 1; ++r)
          for (std::size_t c = 0; c < cols + gap; ++c) {
            const float value = out[r * (cols + gap) + c];
            if (r < 3 && c < cols)
              wrong += !same_float(value, expected[(r + 1) * cols + c]);
            else
              touched += value != poison;
          }
        CHECK(wrong == 0);
        CHECK(touched == 0);
      }
    });
  });
}

TEST_CASE("dequantize_rows equals the golden vectors on every ISA") {
  test::for_each_isa([](Isa) {
    test::for_each_format([]<class F>() {
      if (F::type == TensorType::F32) return;
      const std::string stem = "golden/" + lower(F::name);
      const auto path = test::shared_path(stem + ".blocks");
      if (!path) return;
      INFO(stem);
      const auto bytes = test::read_bytes(*path);
      const auto expected = test::read_floats(*test::shared_path(stem + ".dequant.f32"));
      const std::size_t cols = 1024, rows = expected.size() / cols;
      REQUIRE(bytes.size() == rows * row_bytes(F::type, cols));
      std::vector<float> out(expected.size());
      dequantize_rows({F::type, rows, cols, bytes.data()}, 0,
                      Span2d<float>(out.data(), rows, cols));
      CHECK(std::memcmp(out.data(), expected.data(), 4 * out.size()) == 0);
    });
  });
}
