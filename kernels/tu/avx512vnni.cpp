#include "kernels/isa/avx512vnni.hpp"
#include "kernels/make_table.hpp"
#include "kernels/tables.hpp"

namespace kquant::kernels {

constinit const KernelTable kAvx512VnniTable = make_table<Avx512Vnni>();

}  // namespace kquant::kernels
