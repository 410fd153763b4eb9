#pragma once
// Options of a benchmark's own, which Google Benchmark must not see.

#include <algorithm>
#include <optional>
#include <string>

namespace kquant::bench {

/// Takes "--NAME=VALUE" out of the arguments.
inline std::optional<std::string> take_option(int& argc, char** argv, const std::string& name) {
  const std::string start = "--" + name + "=";
  for (int i = 1; i < argc; ++i)
    if (const std::string argument = argv[i]; argument.starts_with(start)) {
      std::copy(argv + i + 1, argv + argc + 1, argv + i);
      --argc;
      return argument.substr(start.size());
    }
  return std::nullopt;
}

}  // namespace kquant::bench
