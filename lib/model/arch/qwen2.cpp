// Qwen 2 and 2.5: Llama with biases on Q, K and V.
#include "model/arch/architecture.hpp"

namespace kquant::arch {
extern const Architecture kQwen2;
const Architecture kQwen2{.name = "qwen2", .rope_layout = RopeLayout::kNeox, .qkv_bias = true};
}  // namespace kquant::arch
