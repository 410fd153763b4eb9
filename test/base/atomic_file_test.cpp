#include "kquant/base/atomic_file.hpp"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <fstream>

#include "shared_data.hpp"

using namespace kquant;

namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::size_t files_in(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

/// Runs `f` in a process of its own; its exit status as waitpid gives it.
template <class F>
int in_child(F f) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) _exit(f());
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return status;
}

}  // namespace

TEST_CASE("a committed file has the bytes written, and nothing is left beside it") {
  const test::TempDir dir;
  auto file = AtomicFile::create(dir / "a");
  REQUIRE(file);
  REQUIRE(file->write(bytes("hello ")));
  REQUIRE(file->write(bytes("world")));
  CHECK(files_in(dir.path()) == 1);
  CHECK_FALSE(std::filesystem::exists(dir / "a"));
  REQUIRE(file->commit());
  CHECK(test::read_text(dir / "a") == "hello world");
  CHECK(files_in(dir.path()) == 1);
}

TEST_CASE("without commit the old file stays") {
  const test::TempDir dir;
  std::ofstream(dir / "a") << "old";
  {
    auto file = AtomicFile::create(dir / "a");
    REQUIRE(file);
    REQUIRE(file->write(bytes("new")));
  }
  CHECK(test::read_text(dir / "a") == "old");
  CHECK(files_in(dir.path()) == 1);
}

TEST_CASE("a process killed while writing leaves the old file") {
  const test::TempDir dir;
  std::ofstream(dir / "a") << "old";
  const int status = in_child([&] {
    auto file = AtomicFile::create(dir / "a");
    if (file) static_cast<void>(file->write(bytes("new")));
    return raise(SIGKILL);
  });
  CHECK(WIFSIGNALED(status));
  CHECK(test::read_text(dir / "a") == "old");
}

TEST_CASE("no room for the bytes is an error with the path, and the old file stays") {
  const test::TempDir dir;
  std::ofstream(dir / "a") << "old";
  const int status = in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100, 100};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 9;
    auto file = AtomicFile::create(dir / "a");
    if (!file) return 8;
    auto written = file->write(bytes(std::string(1000, 'x')));
    if (written) written = file->commit();
    if (written) return 7;
    return written.error().code == ErrorCode::kIo &&
                   written.error().message.find("/a: ") != std::string::npos
               ? 0
               : 6;
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(test::read_text(dir / "a") == "old");
  CHECK(files_in(dir.path()) == 1);
}

TEST_CASE("permissions: of the file replaced, else of the umask") {
  const test::TempDir dir;
  std::ofstream(dir / "old") << "x";
  std::filesystem::permissions(dir / "old", std::filesystem::perms(0640));
  const mode_t mask = umask(027);
  for (const char* name : {"old", "new"}) {
    auto file = AtomicFile::create(dir / name);
    REQUIRE(file);
    REQUIRE(file->commit());
  }
  umask(mask);
  CHECK(std::filesystem::status(dir / "old").permissions() == std::filesystem::perms(0640));
  CHECK(std::filesystem::status(dir / "new").permissions() == std::filesystem::perms(0640));
}

TEST_CASE("a folder, or a missing folder, is refused at once") {
  const test::TempDir dir;
  const auto folder = AtomicFile::create(dir.path());
  REQUIRE_FALSE(folder);
  CHECK_THAT(folder.error().message, Catch::Contains("not a regular file"));
  const auto missing = AtomicFile::create(dir / "none/a");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == ErrorCode::kIo);
}
