// Gemma 3 (arXiv:2503.19786), text part: norms on Q and K instead of soft caps, five layers with a
// window and a RoPE base of their own to one that sees all.
#include "model/arch/architecture.hpp"

namespace kquant::arch {
extern const Architecture kGemma3;
const Architecture kGemma3{
    .name = "gemma3",
    .rope_layout = RopeLayout::kNeox,
    .activation = Activation::kGelu,
    .qk_norms = true,
    .post_norms = true,
    .scaled_embedding = true,
    .layers_scaled_by_width = 62,  // the 27B model
    .window_period = 6,
    .rope_base_local = 10000.0f,
};
}  // namespace kquant::arch
