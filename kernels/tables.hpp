#pragma once
// The tables that exist; each is defined in kernels/tu/ISA.cpp.

#include "kernels/table.hpp"

namespace kquant::kernels {

extern const KernelTable kScalarTable;
extern const KernelTable kAvx2Table;
extern const KernelTable kAvx512VnniTable;
extern const KernelTable kNeonTable;
extern const KernelTable kNeonDotprodTable;
extern const KernelTable kNeonI8mmTable;

}  // namespace kquant::kernels
