#pragma once
// Runs untrusted Python programs: python3 in isolated mode under bubblewrap, with nothing but /usr
// to read, nothing to write, no network, no other processes, and limits on time, memory and output.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kquant/base/error.hpp"

namespace kquant {

struct SandboxOptions {
  double seconds = 3;                             ///< of each program, by the clock and by the CPU
  std::uint64_t memory = std::uint64_t{1} << 29;  ///< bytes of address space of each program
  int jobs = 0;  ///< programs run side by side; 0: as many as processors
  /// Runs the programs without bubblewrap, under the same limits: they can read all that the user
  /// can. For people who know what they run.
  bool without_bubblewrap = false;
};

enum class Outcome : std::uint8_t {
  kPassed,  ///< ran to its end
  kFailed,  ///< raised an exception, ended itself or was stopped by a limit
  kTimedOut,
};

/// Runs each program, in a process of its own forked from an interpreter that serves many.
/// Errors: kUnavailable (bubblewrap or python3 is not installed, or the system refuses namespaces:
/// says which), kIo.
Result<std::vector<Outcome>> run_python(std::span<const std::string> programs,
                                        const SandboxOptions& options = {});

}  // namespace kquant
