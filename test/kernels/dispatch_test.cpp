#include <cstdlib>

#include "every_isa.hpp"
#include "kquant/matmul.hpp"

using namespace kquant;

TEST_CASE("scalar is always there, and names find instruction sets") {
  REQUIRE_FALSE(available_isas().empty());
  CHECK(available_isas().front() == Isa::kScalar);
  for (const Isa isa : available_isas()) {
    REQUIRE(find_isa(name(isa)));
    CHECK(*find_isa(name(isa)) == isa);
  }
  const auto unknown = find_isa("sse9");
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == ErrorCode::kNotFound);
  CHECK(unknown.error().message.find("scalar") != std::string::npos);
}

TEST_CASE("what is selected is what runs; what is missing is an error and changes nothing") {
  test::for_each_isa([](Isa isa) {
    CHECK(current_isa() == isa);
    for (const Isa other : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kNeon,
                            Isa::kNeonDotprod, Isa::kNeonI8mm}) {
      if (find_isa(name(other))) continue;
      const auto result = select_isa(other);
      REQUIRE_FALSE(result);
      CHECK(result.error().code == ErrorCode::kUnavailable);
      CHECK(current_isa() == isa);
    }
  });
}

// Run under several values of KQUANT_ISA (see CMakeLists.txt).
TEST_CASE("KQUANT_ISA is followed at first use", "[environment]") {
  const char* wanted = std::getenv("KQUANT_ISA");
  const std::string current(name(current_isa()));
  if (wanted == nullptr) {
    CHECK(current == name(available_isas().back()));
    CHECK(isa_warning().empty());
  } else if (find_isa(wanted)) {
    CHECK(current == wanted);
    CHECK(isa_warning().empty());
  } else {
    CHECK(current == name(available_isas().back()));
    CHECK(isa_warning().find(wanted) != std::string_view::npos);
  }
  CHECK(kernels::table().isa_name == current);
}

TEST_CASE("every format of the list can be computed, activation formats cannot") {
  test::for_each_isa([](Isa) {
    test::for_each_format([]<class F>() { CHECK(can_compute(F::type)); });
    CHECK_FALSE(can_compute(TensorType::Q8_K));
    CHECK_FALSE(can_compute(TensorType::IQ2_S));
  });
}
