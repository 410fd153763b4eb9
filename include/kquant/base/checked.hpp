#pragma once
// Arithmetic on sizes that come from files: every sum, product and padding of untrusted numbers
// goes through these, so that none can wrap into a small allocation or a pointer before the buffer.

#include <cstdint>
#include <optional>
#include <span>

namespace kquant {

/// a + b; nullopt where it exceeds 64 bits.
constexpr std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

/// a * b; nullopt where it exceeds 64 bits.
constexpr std::optional<std::uint64_t> checked_mul(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

/// The product of all factors (1 for none); nullopt where it exceeds 64 bits.
constexpr std::optional<std::uint64_t> checked_product(std::span<const std::uint64_t> factors) {
  std::optional<std::uint64_t> product = 1;
  for (const std::uint64_t f : factors)
    if (product) product = checked_mul(*product, f);
  return product;
}

/// `value` rounded up to a multiple of `alignment`, a power of two; nullopt where that exceeds 64
/// bits.
constexpr std::optional<std::uint64_t> checked_align_up(std::uint64_t value,
                                                        std::uint64_t alignment) {
  const std::optional<std::uint64_t> sum = checked_add(value, alignment - 1);
  if (!sum) return std::nullopt;
  return *sum & ~(alignment - 1);
}

}  // namespace kquant
