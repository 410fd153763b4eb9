// Gemma 2 (arXiv:2408.00118): every other layer sees a window, scores and logits are soft-capped.
// The norm weights in GGUF files have the 1 of (1 + w) already added.
#include "model/arch/architecture.hpp"

namespace kquant::arch {
extern const Architecture kGemma2;
const Architecture kGemma2{
    .name = "gemma2",
    .rope_layout = RopeLayout::kNeox,
    .activation = Activation::kGelu,
    .post_norms = true,
    .scaled_embedding = true,
    .layers_scaled_by_width = 46,  // the 27B model
    .attention_soft_cap = 50.0f,
    .logit_soft_cap = 30.0f,
    .window_period = 2,
    .sliding_window = 4096,
};
}  // namespace kquant::arch
