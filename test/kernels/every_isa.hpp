#pragma once
// Loops over the instruction sets of this machine, and random weights.

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/table.hpp"
#include "kquant/dispatch.hpp"
#include "kquant/format/all.hpp"

namespace kquant::test {

/// fn(isa) with each ISA selected in turn; puts the former one back.
template <class Fn>
void for_each_isa(Fn&& fn) {
  const Isa before = current_isa();
  for (const Isa isa : available_isas()) {
    INFO("isa " << std::string(name(isa)));
    REQUIRE(select_isa(isa));
    REQUIRE(kernels::table().isa_name == name(isa));
    fn(isa);
  }
  REQUIRE(select_isa(before));
}

inline std::vector<float> random_floats(std::size_t n, std::uint32_t seed, float size = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, size);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

inline std::vector<std::byte> random_bytes(std::size_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 0xff);
  return bytes;
}

/// rows x cols weights of format F with random codes and scales, and finite factors of both signs.
template <class F>
std::vector<std::byte> random_weights(std::size_t rows, std::size_t cols, std::uint32_t seed) {
  std::vector<std::byte> bytes = random_bytes(rows * row_bytes(F::type, cols), seed);
  std::mt19937 random(seed + 1);
  std::normal_distribution<float> normal(0.0f, 0.01f);
  if constexpr (BlockFormat<F>) {
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(typename F::Block)) {
      typename F::Block block;
      std::memcpy(&block, bytes.data() + at, sizeof block);
      F::set_d(block, normal(random), normal(random));
      std::memcpy(bytes.data() + at, &block, sizeof block);
    }
  } else {
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(typename F::Element)) {
      const typename F::Element element = F::element(normal(random));
      std::memcpy(bytes.data() + at, &element, sizeof element);
    }
  }
  return bytes;
}

/// fn.operator()<F>() for all formats matmul takes.
template <class Fn>
void for_each_format(Fn&& fn) {
  WeightFormats::for_each(fn);
  PlainFormats::for_each(fn);
}

}  // namespace kquant::test
