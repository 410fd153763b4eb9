#pragma once
// The types a GGUF tensor can have: ids, names, block sizes. This table also knows types that this
// library cannot decode, so that files holding them can be inspected and copied.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "kquant/base/macros.hpp"

namespace kquant {

/// Values are GGUF's on-disk ids (ggml_type).
enum class TensorType : std::uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q8_1 = 9,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  Q8_K = 15,
  IQ2_XXS = 16,
  IQ2_XS = 17,
  IQ3_XXS = 18,
  IQ1_S = 19,
  IQ4_NL = 20,
  IQ3_S = 21,
  IQ2_S = 22,
  IQ4_XS = 23,
  I8 = 24,
  I16 = 25,
  I32 = 26,
  I64 = 27,
  F64 = 28,
  IQ1_M = 29,
  BF16 = 30,
  TQ1_0 = 34,
  TQ2_0 = 35,
  MXFP4 = 39,
};

/// What this library can do with a type.
enum class Support { kOpaque, kPlain, kBlock };

struct TypeInfo {
  TensorType type;
  std::string_view name;
  std::uint32_t block_size;   ///< weights per block
  std::uint32_t block_bytes;  ///< bytes per block
  Support support;

  constexpr double bits_per_weight() const { return 8.0 * block_bytes / block_size; }
};

namespace detail {
inline constexpr TypeInfo kTypes[] = {
    {TensorType::F32, "F32", 1, 4, Support::kPlain},
    {TensorType::F16, "F16", 1, 2, Support::kPlain},
    {TensorType::BF16, "BF16", 1, 2, Support::kPlain},
    {TensorType::Q4_0, "Q4_0", 32, 18, Support::kBlock},
    {TensorType::Q4_1, "Q4_1", 32, 20, Support::kBlock},
    {TensorType::Q5_0, "Q5_0", 32, 22, Support::kBlock},
    {TensorType::Q5_1, "Q5_1", 32, 24, Support::kBlock},
    {TensorType::Q8_0, "Q8_0", 32, 34, Support::kBlock},
    {TensorType::Q8_1, "Q8_1", 32, 36, Support::kBlock},
    {TensorType::Q2_K, "Q2_K", 256, 84, Support::kBlock},
    {TensorType::Q3_K, "Q3_K", 256, 110, Support::kBlock},
    {TensorType::Q4_K, "Q4_K", 256, 144, Support::kBlock},
    {TensorType::Q5_K, "Q5_K", 256, 176, Support::kBlock},
    {TensorType::Q6_K, "Q6_K", 256, 210, Support::kBlock},
    {TensorType::Q8_K, "Q8_K", 256, 292, Support::kBlock},
    {TensorType::IQ2_XXS, "IQ2_XXS", 256, 66, Support::kOpaque},
    {TensorType::IQ2_XS, "IQ2_XS", 256, 74, Support::kOpaque},
    {TensorType::IQ3_XXS, "IQ3_XXS", 256, 98, Support::kOpaque},
    {TensorType::IQ1_S, "IQ1_S", 256, 50, Support::kOpaque},
    {TensorType::IQ4_NL, "IQ4_NL", 32, 18, Support::kOpaque},
    {TensorType::IQ3_S, "IQ3_S", 256, 110, Support::kOpaque},
    {TensorType::IQ2_S, "IQ2_S", 256, 82, Support::kOpaque},
    {TensorType::IQ4_XS, "IQ4_XS", 256, 136, Support::kOpaque},
    {TensorType::I8, "I8", 1, 1, Support::kOpaque},
    {TensorType::I16, "I16", 1, 2, Support::kOpaque},
    {TensorType::I32, "I32", 1, 4, Support::kOpaque},
    {TensorType::I64, "I64", 1, 8, Support::kOpaque},
    {TensorType::F64, "F64", 1, 8, Support::kOpaque},
    {TensorType::IQ1_M, "IQ1_M", 256, 56, Support::kOpaque},
    {TensorType::TQ1_0, "TQ1_0", 256, 54, Support::kOpaque},
    {TensorType::TQ2_0, "TQ2_0", 256, 66, Support::kOpaque},
    {TensorType::MXFP4, "MXFP4", 32, 17, Support::kOpaque},
};
}  // namespace detail

/// nullptr for an id that is not in the table.
constexpr const TypeInfo* find_type(std::uint32_t id) {
  for (const TypeInfo& info : detail::kTypes)
    if (static_cast<std::uint32_t>(info.type) == id) return &info;
  return nullptr;
}

/// By GGUF's spelling; letter case is ignored ("q4_k" finds Q4_K). nullptr where there is none.
constexpr const TypeInfo* find_type(std::string_view name) {
  const auto upper = [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; };
  for (const TypeInfo& info : detail::kTypes) {
    bool same = info.name.size() == name.size();
    for (std::size_t i = 0; same && i < name.size(); ++i) same = upper(name[i]) == info.name[i];
    if (same) return &info;
  }
  return nullptr;
}

/// Of one of the enumerators above.
constexpr const TypeInfo& type_info(TensorType type) {
  return *find_type(static_cast<std::uint32_t>(type));
}

/// Bytes of one row of `cols` weights. Precondition: cols is a multiple of the block size.
constexpr std::size_t row_bytes(TensorType type, std::size_t cols) {
  const TypeInfo& info = type_info(type);
  return cols / info.block_size * info.block_bytes;
}

}  // namespace kquant
