#include "kernels/isa/neon.hpp"

#include "kernels/make_table.hpp"
#include "kernels/tables.hpp"

namespace kquant::kernels {

static_assert(KernelIsa<NeonWith<Isa::kNeonI8mm>>);
constinit const KernelTable kNeonI8mmTable = make_table<NeonWith<Isa::kNeonI8mm>>();

}  // namespace kquant::kernels
