// Llama 1, 2, 3.x, Mistral and what is shaped like them. Rows of Q and K are stored so that RoPE
// turns adjacent pairs. Mistral files name a sliding window that no reader of them applies.
#include "model/arch/architecture.hpp"

namespace kquant::arch {
extern const Architecture kLlama;
const Architecture kLlama{.name = "llama"};
}  // namespace kquant::arch
