// Packed matrices: their size, and that the instruction set that packs does not matter.

#include "every_isa.hpp"
#include "kquant/matmul.hpp"

using namespace kquant;

TEST_CASE("a packed matrix takes the memory of the original") {
  WeightFormats::for_each([]<class F>() {
    INFO(std::string(F::name));
    for (const std::size_t cols : {256u, 768u, 4096u}) {
      const auto bytes = test::random_weights<F>(64, cols, 1);
      const auto packed = PackedMatrix::pack({F::type, 64, cols, bytes.data()});
      REQUIRE(packed);
      CHECK(packed->bytes() >= bytes.size());
      // Odd numbers of blocks without mins are completed by 32 bytes in 16 rows.
      CHECK(packed->bytes() <= bytes.size() + 4 * 32);
    }
  });
}

TEST_CASE("every ISA packs the same bytes") {
  WeightFormats::for_each([]<class F>() {
    INFO(std::string(F::name));
    const std::size_t rows = 37, cols = F::kBlock * 11;
    const auto bytes = test::random_weights<F>(rows, cols, 2);
    std::vector<std::byte> first;
    test::for_each_isa([&](Isa) {
      const auto packed = PackedMatrix::pack({F::type, rows, cols, bytes.data()});
      REQUIRE(packed);
      const MatrixView view = packed->view();
      CHECK(view.layout == Layout::kPacked);
      const std::vector<std::byte> now(view.data, view.data + packed->bytes());
      if (first.empty()) first = now;
      CHECK(now == first);
    });
  });
}

TEST_CASE("plain formats are not packed, and an empty matrix may be") {
  CHECK(!can_pack(TensorType::F16));
  CHECK(!can_pack(TensorType::F32));
  CHECK(can_pack(TensorType::Q4_K));
  const auto none = PackedMatrix::pack({TensorType::Q4_K, 0, 256, nullptr});
  REQUIRE(none);
  CHECK(none->bytes() == 0);
}
