#include "kernels/isa/neon.hpp"

#include "kernels/make_table.hpp"
#include "kernels/tables.hpp"

namespace kquant::kernels {

static_assert(KernelIsa<NeonWith<Isa::kNeon>>);
constinit const KernelTable kNeonTable = make_table<NeonWith<Isa::kNeon>>();

}  // namespace kquant::kernels
