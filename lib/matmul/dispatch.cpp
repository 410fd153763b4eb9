#include "kquant/dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/tables.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace kquant {
namespace {

using kernels::KernelTable;

#if defined(__x86_64__) && !defined(KQUANT_SCALAR_ONLY)
bool has_f16c() {  // clang 14 has no __builtin_cpu_supports("f16c")
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}
bool has_avx512vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__) && !defined(KQUANT_SCALAR_ONLY)
#if defined(__linux__)
bool has_dotprod() {
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
bool has_i8mm() {
  return has_dotprod() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
}
#else  // not known how to ask
bool has_dotprod() {
  return false;
}
bool has_i8mm() {
  return false;
}
#endif
#endif

/// Slowest first. One line an ISA.
std::vector<const KernelTable*> usable_tables() {
  std::vector<const KernelTable*> tables = {&kernels::kScalarTable};
#if !defined(KQUANT_SCALAR_ONLY)
#if defined(__x86_64__)
  if (has_avx2()) tables.push_back(&kernels::kAvx2Table);
  if (has_avx512vnni()) tables.push_back(&kernels::kAvx512VnniTable);
#elif defined(__aarch64__)
  tables.push_back(&kernels::kNeonTable);
  if (has_dotprod()) tables.push_back(&kernels::kNeonDotprodTable);
  if (has_i8mm()) tables.push_back(&kernels::kNeonI8mmTable);
#endif
#endif
  return tables;
}

struct Dispatch {
  std::vector<const KernelTable*> tables = usable_tables();
  std::vector<Isa> isas;
  std::atomic<const KernelTable*> current = tables.back();
  std::string warning;

  Dispatch() {
    for (const KernelTable* table : tables) isas.push_back(table->isa);
    const char* wanted = std::getenv("KQUANT_ISA");
    if (wanted == nullptr || *wanted == '\0') return;
    for (const KernelTable* table : tables)
      if (name(table->isa) == wanted) {
        current = table;
        return;
      }
    warning = "KQUANT_ISA: '" + std::string(wanted) + "' is not available here (have " +
              available() + "), using " + std::string(name(current.load()->isa));
  }

  std::string available() const {
    std::string list;
    for (const Isa isa : isas) list += (list.empty() ? "" : ", ") + std::string(name(isa));
    return list;
  }
};

Dispatch& dispatch() {
  static Dispatch instance;
  return instance;
}

}  // namespace

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512Vnni:
      return "avx512vnni";
    case Isa::kNeon:
      return "neon";
    case Isa::kNeonDotprod:
      return "neon_dotprod";
    case Isa::kNeonI8mm:
      return "neon_i8mm";
  }
  return "unknown";
}

std::span<const Isa> available_isas() {
  return dispatch().isas;
}

Isa current_isa() {
  return kernels::table().isa;
}

Result<void> select_isa(Isa isa) {
  for (const KernelTable* table : dispatch().tables)
    if (table->isa == isa) {
      dispatch().current = table;
      return {};
    }
  return fail(ErrorCode::kUnavailable, "instruction set '" + std::string(name(isa)) +
                                           "' is not available here; have " +
                                           dispatch().available());
}

Result<Isa> find_isa(std::string_view wanted) {
  for (const Isa isa : available_isas())
    if (name(isa) == wanted) return isa;
  return fail(ErrorCode::kNotFound, "instruction set '" + std::string(wanted) +
                                        "' is not available here; have " + dispatch().available());
}

std::string_view isa_warning() {
  return dispatch().warning;
}

const kernels::KernelTable& kernels::table() {
  return *dispatch().current.load(std::memory_order_relaxed);
}

}  // namespace kquant
