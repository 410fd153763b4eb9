#include "terminal.hpp"

#include <fmt/format.h>
#include <omp.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

#include "commands.hpp"

namespace kquant::cli {

namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free);

extern "C" void on_interrupt(int signal) {
  if (stop_requested.exchange(true)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

}  // namespace

bool interrupted() {
  return stop_requested.load();
}

void watch_for_interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
}

Progress::Progress(std::string title)
    : title_(std::move(title)),
      on_terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (shown_) fmt::print(stderr, "\r\033[K");
}

bool Progress::update(std::size_t done, std::size_t total, const std::string& note) {
  using namespace std::chrono_literals;
  const auto now = Clock::now();
  if (on_terminal_ && total > 0 && now - start_ > 1s && (now - last_ > 100ms || !shown_)) {
    constexpr std::size_t kWidth = 24;
    const std::size_t filled = kWidth * done / total;
    const double elapsed = std::chrono::duration<double>(now - start_).count();
    const double left =
        done > 0 ? elapsed * static_cast<double>(total - done) / static_cast<double>(done) : 0;
    fmt::print(stderr, "\r\033[K{} [{:#<{}}{:.<{}}] {}/{} {:.0f} s left {}", title_, "", filled, "",
               kWidth - filled, done, total, left, note);
    std::fflush(stderr);
    last_ = now;
    shown_ = true;
  }
  return !interrupted();
}

std::string read_text(const std::string& path) {
  const bool standard_input = path == "-";
  std::FILE* raw = standard_input ? stdin : std::fopen(path.c_str(), "rb");
  if (raw == nullptr)
    give_up(ErrorCode::kIo, fmt::format("{}: cannot read: {}", path, std::strerror(errno)));
  const auto close = [standard_input](std::FILE* f) {
    if (!standard_input) std::fclose(f);
  };
  const std::unique_ptr<std::FILE, decltype(close)> file(raw, close);
  std::string text;
  char buffer[1 << 16];
  std::size_t n = 0;
  while ((n = std::fread(buffer, 1, sizeof buffer, file.get())) > 0) text.append(buffer, n);
  if (std::ferror(file.get()) != 0)
    give_up(ErrorCode::kIo, fmt::format("{}: cannot read: {}", path, std::strerror(errno)));
  return text;
}

std::string human_bytes(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.2f} {}", bytes, units[unit]);
}

void wait_briefly(char** argv) {
#if defined(__GNUC__) && !defined(__clang__)
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error || setenv("GOMP_SPINCOUNT", "1000", 1) != 0) return;
  execv(self.c_str(), argv);  // comes back only where it failed
#else
  (void)argv;  // another OpenMP library, with other settings
#endif
}

void use_threads(int threads) {
  if (threads > 0) omp_set_num_threads(threads);
}

}  // namespace kquant::cli
