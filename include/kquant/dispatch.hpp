#pragma once
// Which instruction set the kernels use. The best one of this machine is chosen at first use;
// the environment variable KQUANT_ISA (scalar, avx2, avx512vnni, neon, neon_dotprod, neon_i8mm) or
// select_isa() override it.

#include <span>
#include <string_view>

#include "kquant/base/error.hpp"

namespace kquant {

enum class Isa { kScalar, kAvx2, kAvx512Vnni, kNeon, kNeonDotprod, kNeonI8mm };

/// "scalar", "avx2", …: the spelling of KQUANT_ISA.
std::string_view name(Isa isa);

/// Built in and supported by this machine, slowest first. Never empty: scalar is always there.
std::span<const Isa> available_isas();

/// The one in use.
Isa current_isa();

/// Uses `isa` from now on, in all threads. Error kUnavailable where this machine or build lacks it.
/// Not to be called while another thread computes.
Result<void> select_isa(Isa isa);

/// By its spelling; kNotFound lists what is available.
Result<Isa> find_isa(std::string_view name);

/// Why KQUANT_ISA could not be followed, if so (the best ISA is used then); empty otherwise.
std::string_view isa_warning();

}  // namespace kquant
