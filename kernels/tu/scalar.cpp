#include "kernels/isa/scalar.hpp"
#include "kernels/make_table.hpp"
#include "kernels/tables.hpp"

namespace kquant::kernels {

constinit const KernelTable kScalarTable = make_table<Scalar>();

}  // namespace kquant::kernels
