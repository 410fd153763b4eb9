#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "kquant/base/half.hpp"

using namespace kquant;

namespace {

// What binary16 means, by arithmetic rather than by bits.
double exact_value(std::uint16_t bits) {
  const double sign = (bits & 0x8000) ? -1.0 : 1.0;
  const int exponent = (bits >> 10) & 31, fraction = bits & 0x3ff;
  return exponent == 0 ? sign * std::ldexp(fraction, -24)
                       : sign * std::ldexp(1024 + fraction, exponent - 25);
}

bool is_special(std::uint16_t bits) {
  return (bits & 0x7c00) == 0x7c00;
}

}  // namespace

TEST_CASE("every finite binary16 number converts exactly and back") {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const Half h{static_cast<std::uint16_t>(bits)};
    if (is_special(h.bits)) continue;
    const float value = to_float(h);
    REQUIRE(static_cast<double>(value) == exact_value(h.bits));
    REQUIRE(std::signbit(value) == ((bits & 0x8000) != 0));
    REQUIRE(to_half(value).bits == h.bits);
  }
}

TEST_CASE("rounding to binary16 is to nearest, ties to even") {
  for (unsigned bits = 0; bits < 0x7bff; ++bits) {
    const double low = exact_value(static_cast<std::uint16_t>(bits));
    const double high = exact_value(static_cast<std::uint16_t>(bits + 1));
    const float middle = static_cast<float>((low + high) / 2);  // exact: one more bit than binary16
    const auto even = static_cast<std::uint16_t>((bits & 1) ? bits + 1 : bits);
    REQUIRE(to_half(middle).bits == even);
    REQUIRE(to_half(-middle).bits == (even | 0x8000));
    REQUIRE(to_half(std::nextafter(middle, 0.0f)).bits == bits);
    REQUIRE(to_half(std::nextafter(middle, 1e9f)).bits == bits + 1);
  }
}

TEST_CASE("binary16 overflow, infinities and NaN") {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(to_half(65519.996f).bits == 0x7bff);
  CHECK(to_half(65520.0f).bits == 0x7c00);
  CHECK(to_half(-inf).bits == 0xfc00);
  CHECK(to_float(Half{0x7c00}) == inf);
  CHECK(std::isnan(to_float(to_half(std::nanf("")))));
  CHECK(std::isnan(to_float(Half{0x7c01})));
  CHECK(to_half(0x1p-25f).bits == 0);  // a tie, to even
  CHECK(to_half(0x1.000002p-25f).bits == 1);
}

TEST_CASE("bfloat16 rounds to nearest, ties to even, and keeps NaN") {
  CHECK(to_bfloat16(1.0f).bits == 0x3f80);
  CHECK(to_bfloat16(1.00390625f).bits == 0x3f80);  // halfway between 0x3f80 and 0x3f81
  CHECK(to_bfloat16(1.01171875f).bits == 0x3f82);  // halfway between 0x3f81 and 0x3f82
  CHECK(to_bfloat16(3.4e38f).bits == 0x7f80);
  CHECK(std::isnan(to_float(to_bfloat16(std::nanf("")))));
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const BFloat16 b{static_cast<std::uint16_t>(bits)};
    if (std::isnan(to_float(b))) continue;
    REQUIRE(to_bfloat16(to_float(b)).bits == bits);
  }
}
