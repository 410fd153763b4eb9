#include "kernels/isa/neon.hpp"

#include "kernels/make_table.hpp"
#include "kernels/tables.hpp"

namespace kquant::kernels {

constinit const KernelTable kNeonTable = make_table<Neon>();

}  // namespace kquant::kernels
