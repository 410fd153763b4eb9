#include "kquant/eval/sandbox.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>
#include <utility>

#include "eval/sandbox_driver.hpp"

namespace kquant {
namespace {

constexpr const char* kPython = "/usr/bin/python3";

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { close(); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

tl::unexpected<Error> refused(const std::string& what) {
  return fail(ErrorCode::kIo,
              fmt::format("sandbox: cannot {}: {}", what, std::generic_category().message(errno)));
}

/// bwrap sees /usr and nothing else of the system; there is no /proc to reach other processes by.
std::vector<std::string> command_line(const SandboxOptions& options, const char* script) {
  std::vector<std::string> words;
  if (!options.without_bubblewrap)
    words = {"bwrap",
             "--unshare-all",
             "--die-with-parent",
             "--new-session",
             "--clearenv",
             "--ro-bind",
             "/usr",
             "/usr",
             "--ro-bind-try",
             "/lib",
             "/lib",
             "--ro-bind-try",
             "/lib64",
             "/lib64",
             "--dev",
             "/dev",
             "--remount-ro",
             "/dev",
             "--cap-drop",
             "ALL",
             "--chdir",
             "/",
             "--remount-ro",
             "/"};
  for (const std::string& word :
       {std::string(kPython), std::string("-I"), std::string("-c"), std::string(script),
        fmt::format("{}", options.seconds), fmt::format("{}", options.memory)})
    words.push_back(word);
  return words;
}

/// A running sandbox; ended with the object.
class Process {
 public:
  Process(pid_t id, Descriptor output, Descriptor errors)
      : id_(id), output_(std::move(output)), errors_(std::move(errors)) {}
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    ::kill(id_, SIGKILL);
    int status = 0;
    while (::waitpid(id_, &status, 0) < 0 && errno == EINTR) {
    }
  }

  /// What it writes until it ends or is silent for `seconds`; of its errors the first 4 KiB.
  std::pair<std::string, std::string> collect(double seconds) {
    std::string texts[2];
    pollfd waits[2] = {{output_.get(), POLLIN, 0}, {errors_.get(), POLLIN, 0}};
    while (waits[0].fd >= 0) {
      const int ready = ::poll(waits, 2, static_cast<int>(seconds * 1000));
      if (ready < 0 && errno == EINTR) continue;
      if (ready <= 0) break;
      for (int i = 0; i < 2; ++i) {
        if (waits[i].revents == 0) continue;
        char buffer[4096];
        const ssize_t n = ::read(waits[i].fd, buffer, sizeof buffer);
        if (n <= 0)
          waits[i].fd = -1;
        else if (i == 0 || texts[i].size() < sizeof buffer)
          texts[i].append(buffer, static_cast<std::size_t>(n));
      }
    }
    return {std::move(texts[0]), std::move(texts[1])};
  }

 private:
  pid_t id_;
  Descriptor output_, errors_;
};

Result<std::unique_ptr<Process>> start(const SandboxOptions& options, const char* script,
                                       const std::string& input) {
  const Descriptor in(::memfd_create("kquant-sandbox", MFD_CLOEXEC));
  if (in.get() < 0) return refused("create its input");
  for (std::size_t at = 0; at < input.size();) {
    const ssize_t n = ::write(in.get(), input.data() + at, input.size() - at);
    if (n < 0 && errno != EINTR) return refused("write its input");
    if (n > 0) at += static_cast<std::size_t>(n);
  }
  ::lseek(in.get(), 0, SEEK_SET);
  int out[2], err[2];
  if (::pipe2(out, O_CLOEXEC) != 0) return refused("create a pipe");
  Descriptor out_read(out[0]), out_write(out[1]);
  if (::pipe2(err, O_CLOEXEC) != 0) return refused("create a pipe");
  Descriptor err_read(err[0]), err_write(err[1]);

  std::vector<std::string> words = command_line(options, script);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, out_write.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, err_write.get(), 2);
  pid_t id = 0;
  const int status =
      ::posix_spawnp(&id, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (status == ENOENT && !options.without_bubblewrap)
    return fail(ErrorCode::kUnavailable,
                "bubblewrap is not installed (Debian: apt install bubblewrap); generated code is "
                "not run outside a sandbox unless you insist (--without-bubblewrap)");
  if (status != 0)
    return fail(ErrorCode::kUnavailable, fmt::format("cannot start {}: {}", arguments[0],
                                                     std::generic_category().message(status)));
  return std::make_unique<Process>(id, std::move(out_read), std::move(err_read));
}

/// Whether a sandbox works here at all, so that failures later on are the programs' own.
Result<void> probe(const SandboxOptions& options) {
  auto process = start(options, "print('ready')", "");
  if (!process) return fail(process.error());
  auto [output, errors] = (*process)->collect(30);
  if (output == "ready\n") return {};
  std::ranges::replace(errors, '\n', ' ');
  if (options.without_bubblewrap)
    return fail(ErrorCode::kUnavailable,
                fmt::format("{} does not run: {}", kPython, errors.empty() ? "no output" : errors));
  return fail(ErrorCode::kUnavailable,
              fmt::format("bubblewrap cannot run {} here ({}): a container may need unprivileged "
                          "user namespaces allowed; generated code is not run outside a sandbox "
                          "unless you insist (--without-bubblewrap)",
                          kPython, errors.empty() ? "no output" : errors));
}

/// Runs programs[first], programs[first + step], … A program that takes the whole sandbox with it
/// has failed, and the rest go on in a new one.
Result<void> run_share(std::span<const std::string> programs, std::size_t first, std::size_t step,
                       const SandboxOptions& options, std::span<Outcome> outcomes) {
  while (first < programs.size()) {
    nlohmann::json batch = nlohmann::json::array();
    for (std::size_t i = first; i < programs.size(); i += step) batch.push_back(programs[i]);
    auto process = start(options, kSandboxDriver,
                         batch.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
    if (!process) return fail(process.error());
    const std::string letters = (*process)->collect(options.seconds + 30).first;
    for (const char letter : letters) {
      if (first >= programs.size()) break;
      outcomes[first] = letter == 'P'   ? Outcome::kPassed
                        : letter == 'T' ? Outcome::kTimedOut
                                        : Outcome::kFailed;
      first += step;
    }
    if (first < programs.size()) {
      outcomes[first] = Outcome::kFailed;
      first += step;
    }
  }
  return {};
}

}  // namespace

Result<std::vector<Outcome>> run_python(std::span<const std::string> programs,
                                        const SandboxOptions& options) {
  std::vector<Outcome> outcomes(programs.size());
  if (programs.empty()) return outcomes;
  if (auto works = probe(options); !works) return fail(works.error());
  const std::size_t wanted = options.jobs > 0 ? static_cast<std::size_t>(options.jobs)
                                              : std::max(1u, std::thread::hardware_concurrency());
  const std::size_t jobs = std::min(wanted, programs.size());
  std::vector<Result<void>> done(jobs);
  {
    std::vector<std::jthread> threads;
    for (std::size_t job = 0; job < jobs; ++job)
      threads.emplace_back(
          [&, job] { done[job] = run_share(programs, job, jobs, options, outcomes); });
  }
  for (const Result<void>& result : done)
    if (!result) return fail(result.error());
  return outcomes;
}

}  // namespace kquant
