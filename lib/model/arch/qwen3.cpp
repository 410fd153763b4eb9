// Qwen 3 (dense): Llama with a norm on each head of Q and K.
#include "model/arch/architecture.hpp"

namespace kquant::arch {
extern const Architecture kQwen3;
const Architecture kQwen3{.name = "qwen3", .rope_layout = RopeLayout::kNeox, .qk_norms = true};
}  // namespace kquant::arch
