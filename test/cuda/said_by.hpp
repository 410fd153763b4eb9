#pragma once
// Tests of what ends the program: in a process of its own.

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <functional>
#include <string>

namespace kquant::test {

/// What a process says that does this; "right" or "wrong" where it reaches its end.
inline std::string said_by(const std::function<bool()>& fn) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 2);
    std::signal(SIGABRT, SIG_DFL);  // Catch would report it as its own
    const char* result = fn() ? "right" : "wrong";
    (void)!write(2, result, 5);
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char buffer[256];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(n));
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return text;
}

}  // namespace kquant::test
