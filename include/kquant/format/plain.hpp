#pragma once
// Element types without blocks: F32, F16, BF16. One weight is one element.

#include "kquant/format/run.hpp"

namespace kquant {

struct F32 {
  using Element = float;
  static constexpr TensorType type = TensorType::F32;
  static constexpr std::string_view name = "F32";
  KQ_INLINE static constexpr float value(Element e) { return e; }
  KQ_INLINE static constexpr Element element(float x) { return x; }
};

struct F16 {
  using Element = Half;
  static constexpr TensorType type = TensorType::F16;
  static constexpr std::string_view name = "F16";
  KQ_INLINE static constexpr float value(Element e) { return to_float(e); }
  KQ_INLINE static constexpr Element element(float x) { return to_half(x); }
};

struct BF16 {
  using Element = BFloat16;
  static constexpr TensorType type = TensorType::BF16;
  static constexpr std::string_view name = "BF16";
  KQ_INLINE static constexpr float value(Element e) { return to_float(e); }
  KQ_INLINE static constexpr Element element(float x) { return to_bfloat16(x); }
};

template <class F>
concept PlainFormat = requires(typename F::Element e, float x) {
  { F::type } -> std::convertible_to<TensorType>;
  { F::value(e) } -> std::same_as<float>;
  { F::element(x) } -> std::same_as<typename F::Element>;
  requires sizeof(typename F::Element) == type_info(F::type).block_bytes;
};

}  // namespace kquant
