// Phi 3, 3.5 and 4: fused matrices, RoPE factors for short and long contexts. Files name a sliding
// window that no reader of them applies.
#include "model/arch/architecture.hpp"

namespace kquant::arch {
extern const Architecture kPhi3;
const Architecture kPhi3{
    .name = "phi3", .rope_layout = RopeLayout::kNeox, .fused_qkv = true, .fused_gate_up = true};
}  // namespace kquant::arch
