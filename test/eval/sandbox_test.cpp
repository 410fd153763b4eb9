#include "kquant/eval/sandbox.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "shared_data.hpp"

using namespace kquant;

namespace {

/// nullopt (and a visible SKIPPED warning) where this machine cannot make a sandbox.
std::optional<std::vector<Outcome>> run(const std::vector<std::string>& programs,
                                        SandboxOptions options = {}) {
  auto outcomes = run_python(programs, options);
  if (outcomes) return *outcomes;
  REQUIRE(outcomes.error().code == ErrorCode::kUnavailable);
  WARN("SKIPPED: " << outcomes.error().message);
  return std::nullopt;
}

/// A program that passes exactly if `attempt` raises.
std::string refused(const std::string& attempt) {
  return "import os, socket\ntry:\n    " + attempt +
         "\nexcept BaseException:\n    pass\nelse:\n    assert False";
}

}  // namespace

TEST_CASE("programs pass, fail and time out each for themselves") {
  using enum Outcome;
  const auto outcomes =
      run({"x = 1\nassert x == 1", "assert 1 == 2", "while True: pass", "syntax error",
           "raise SystemExit(0)", "import os; os._exit(0)",
           "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "import time; time.sleep(60)",
           "assert 'é€' == '\\u00e9\\u20ac'", std::string("a\0b", 3),
           "def f(x): return sorted(x)\nassert f([2, 1]) == [1, 2]"},
          {.seconds = 1});
  if (!outcomes) return;
  CHECK(*outcomes == std::vector{kPassed, kFailed, kTimedOut, kFailed, kFailed, kFailed, kFailed,
                                 kTimedOut, kPassed, kFailed, kPassed});
  CHECK(run({})->empty());
}

TEST_CASE("a program cannot get out of the sandbox") {
  // A real server to reach, and a real file to change.
  const int server = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  REQUIRE(::bind(server, reinterpret_cast<sockaddr*>(&address), length) == 0);
  REQUIRE(::listen(server, 4) == 0);
  REQUIRE(::getsockname(server, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  const std::string port = std::to_string(ntohs(address.sin_port));
  const test::TempDir dir;
  const std::string file = (dir / "file").string();
  ::setenv("KQUANT_TEST_SECRET", "secret", 1);

  const std::vector<std::string> attempts = {
      refused("socket.create_connection(('127.0.0.1', " + port + "), 1)"),
      refused("socket.socket()"),
      refused("open('" + file + "', 'w').write('x')"),
      refused("open('/tmp/x', 'w').write('x')"),
      refused("open('/dev/x', 'w').write('x')"),
      refused("open('/usr/x', 'w').write('x')"),
      refused("open('/etc/passwd').read()"),
      refused("os.listdir('" + dir.path().string() + "')"),
      refused("os.environ['KQUANT_TEST_SECRET']"),
      refused("os.fork()"),
      refused("os.system('true') == 0 or 1 / 0"),
      refused("os.execv('/usr/bin/true', ['true'])"),
      refused("os.kill(os.getppid(), 9)"),
      refused("os.listdir('/proc/1')"),
      refused("bytearray(2 << 30)"),
      refused(
          "os.write(1, b'P') and os.fstat(1).st_rdev == os.stat('/dev/null').st_rdev and 1 / 0"),
  };
  const auto outcomes = run(attempts);
  if (outcomes)
    for (std::size_t i = 0; i < attempts.size(); ++i) {
      INFO(attempts[i]);
      CHECK((*outcomes)[i] == Outcome::kPassed);
    }
  CHECK_FALSE(std::filesystem::exists(file));
  ::close(server);
}

TEST_CASE("bombs harm neither the machine nor the programs after them") {
  using enum Outcome;
  const auto start = std::chrono::steady_clock::now();
  const auto outcomes =
      run({"import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
           "x = []\nwhile True: x.append(bytearray(1 << 24))", "while True: print('x' * 1000000)",
           "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
           "import ctypes; ctypes.string_at(0)", "x = 10 ** (10 ** 10)", "assert True"},
          {.seconds = 1, .jobs = 1});
  if (!outcomes) return;
  CHECK((*outcomes)[0] == kTimedOut);
  CHECK((*outcomes)[1] != kPassed);
  CHECK((*outcomes)[2] == kTimedOut);
  CHECK((*outcomes)[3] != kPassed);
  CHECK((*outcomes)[4] == kFailed);
  CHECK((*outcomes)[5] != kPassed);
  CHECK((*outcomes)[6] == kPassed);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));
}

TEST_CASE("without bubblewrap nothing runs unless the user insists") {
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", "/nonexistent", 1);
  const std::vector<std::string> programs = {"assert True", "import os; os.fork()"};
  const auto refused = run_python(programs);
  const auto insisted = run_python(programs, {.without_bubblewrap = true});
  ::setenv("PATH", path.c_str(), 1);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::kUnavailable);
  CHECK_THAT(refused.error().message, Catch::Contains("apt install bubblewrap"));
  if (!insisted) {
    WARN("SKIPPED: " << insisted.error().message);
    return;
  }
  CHECK((*insisted)[0] == Outcome::kPassed);
  CHECK((*insisted)[1] == Outcome::kFailed);
}
