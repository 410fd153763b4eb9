#pragma once
// What the commands share in dealing with a person at a terminal.

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <string>

namespace kquant::cli {

/// True after Ctrl-C (or SIGTERM). A command that sees it stops its work, removes what it began and
/// ends; a second Ctrl-C ends the process at once.
bool interrupted();
void watch_for_interrupts();

/// A progress bar on standard error, shown only on a terminal and only for work over a second.
class Progress {
 public:
  explicit Progress(std::string title);
  ~Progress();  ///< wipes the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Returns !interrupted(), so that it can stand at the end of a progress callback.
  bool update(std::size_t done, std::size_t total, const std::string& note = "");

 private:
  using Clock = std::chrono::steady_clock;
  std::string title_;
  bool on_terminal_, shown_ = false;
  Clock::time_point start_, last_;
};

/// Whole contents of a text file; "-" is standard input. Ends the command when unreadable or a
/// folder.
std::string read_text(const std::string& path);

/// "12.3 MiB"
std::string human_bytes(double bytes);

/// Starts the program again with GOMP_SPINCOUNT=1000, unless the user has set how OpenMP waits:
/// threads that wait then sleep after some 20 microseconds, where by default they keep their core
/// busy for milliseconds, also when another process could use it. gcc's OpenMP library reads this
/// from the environment before main(), and has no function for it. docs/performance.md has what it
/// is worth. Does nothing where the program cannot be found again.
void wait_briefly(char** argv);

/// Sets OpenMP's threads; 0 leaves the default.
void use_threads(int threads);

}  // namespace kquant::cli
