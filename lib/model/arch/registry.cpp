#include "model/arch/architecture.hpp"

namespace kquant::arch {

extern const Architecture kLlama, kQwen2, kQwen3, kGemma2, kGemma3, kPhi3;

namespace {
constexpr const Architecture* kRegistry[] = {
    &kLlama,   //
    &kQwen2,   //
    &kQwen3,   //
    &kGemma2,  //
    &kGemma3,  //
    &kPhi3,    //
};
}  // namespace

std::span<const Architecture* const> all() {
  return kRegistry;
}

const Architecture* find(std::string_view name) {
  for (const Architecture* architecture : kRegistry)
    if (architecture->name == name) return architecture;
  return nullptr;
}

}  // namespace kquant::arch
