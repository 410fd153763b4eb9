#include "kernels/isa/avx2.hpp"
#include "kernels/make_table.hpp"
#include "kernels/tables.hpp"

namespace kquant::kernels {

constinit const KernelTable kAvx2Table = make_table<Avx2>();

}  // namespace kquant::kernels
