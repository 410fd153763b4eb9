#include "kernels/isa/neon.hpp"

#include "kernels/make_table.hpp"
#include "kernels/tables.hpp"

namespace kquant::kernels {

static_assert(KernelIsa<NeonWith<Isa::kNeonDotprod>>);
constinit const KernelTable kNeonDotprodTable = make_table<NeonWith<Isa::kNeonDotprod>>();

}  // namespace kquant::kernels
