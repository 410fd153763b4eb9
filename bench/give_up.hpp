#pragma once
// How programs of the bench end when they cannot do their work: the reason, and status 1.

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "kquant/base/error.hpp"

namespace kquant::bench {

[[noreturn]] inline void give_up(const std::string& message) {
  std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, message.c_str());
  std::exit(1);
}
template <class T>
T value_of(Result<T> result) {
  if (!result) give_up(result.error().message);
  return std::move(*result);
}
inline void check(const Result<void>& result) {
  if (!result) give_up(result.error().message);
}

}  // namespace kquant::bench
