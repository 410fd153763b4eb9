// kquant study: models x levels x tasks, resumable and divisible.

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <memory>

#include "commands.hpp"
#include "kquant/eval/study.hpp"
#include "processes.hpp"
#include "terminal.hpp"

namespace kquant::cli {

namespace {

struct Options {
  std::string config, folder, shard;
  std::vector<std::string> merge;
  int threads = 0;
  bool without_bubblewrap = false;
};

/// "2/8": the third of eight.
Shard parse_shard(const std::string& text) {
  Shard shard;
  if (text.empty()) return shard;
  const std::size_t slash = text.find('/');
  try {
    std::size_t end = 0;
    shard.index = std::stoul(text, &end);
    if (end != slash) throw std::invalid_argument(text);
    shard.count = std::stoul(text.substr(slash + 1), &end);
    if (slash + 1 + end != text.size()) throw std::invalid_argument(text);
  } catch (const std::exception&) {
    give_up(ErrorCode::kInvalidArgument,
            fmt::format("--shard: found '{}', expected I/N, such as 0/4", text));
  }
  if (shard.index >= shard.count)
    give_up(ErrorCode::kInvalidArgument,
            fmt::format("--shard: found '{}', expected I/N with I from 0 to N - 1", text));
  return shard;
}

/// One line that is overwritten on a terminal; elsewhere one for each cell.
class StudyLine {
 public:
  bool operator()(const StudyProgress& p) {
    using namespace std::chrono;
    const auto now = steady_clock::now();
    const std::string cell = fmt::format("{} {} {}", p.model, p.level, p.task);
    if (first_share_ < 0) first_share_ = p.share;
    if (on_terminal_ ? now - last_ > milliseconds(200) : cell != cell_) {
      const double elapsed = duration<double>(now - start_).count();
      const double gained = p.share - first_share_;
      const std::string left =
          gained > 0 && elapsed > 2
              ? fmt::format(", {:.0f} s left", elapsed * (1 - p.share) / gained)
              : "";
      fmt::print(stderr, "{}[{:3.0f} %{}] {}{}{}", on_terminal_ ? "\r\033[K" : "", 100 * p.share,
                 left, cell, p.total > 0 ? fmt::format(" {}/{}", p.done, p.total) : "",
                 on_terminal_ ? "" : "\n");
      std::fflush(stderr);
      last_ = now;
      cell_ = cell;
    }
    return !interrupted();
  }
  ~StudyLine() {
    if (on_terminal_) fmt::print(stderr, "\r\033[K");
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool on_terminal_ = isatty(STDERR_FILENO) == 1;
  Clock::time_point start_ = Clock::now(), last_ = {};
  double first_share_ = -1;
  std::string cell_;
};

void study(const Options& o, bool merge) {
  use_threads(o.threads);
  const StudyConfig config = value_of(read_study(o.config));
  if (merge) {
    const std::vector<std::filesystem::path> others(o.merge.begin(), o.merge.end());
    check(merge_study(config, o.folder, others));
    fmt::print("{}: merged; kquant report {}\n", o.folder, o.folder);
    return;
  }
  StudyOptions options;
  const Processes processes;
  const bool divided = processes.shard().count > 1;
  if (divided && !o.shard.empty())
    give_up(ErrorCode::kInvalidArgument, "--shard: mpirun divides the work itself");
  options.shard = divided ? processes.shard() : parse_shard(o.shard);
  options.without_bubblewrap = o.without_bubblewrap;
  Result<void> done;
  {
    StudyLine line;
    options.progress = [&](const StudyProgress& p) { return line(p); };
    done = run_study(config, o.folder, options);
  }
  const bool all_done = processes.all(done.has_value());
  check(done);
  if (!all_done) give_up(ErrorCode::kUnavailable, "another process of this run failed");
  if (divided && options.shard.index > 0) return;
  if (divided) check(merge_study(config, o.folder));
  fmt::print("{}: complete; kquant {} {}\n", o.folder,
             o.shard.empty() ? "report" : "study --merge, then kquant report", o.folder);
}

}  // namespace

void add_study(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "study", "Models x levels x tasks: quantizes and measures what is missing");
  command->add_option("CONFIG", o->config, "The study: JSON")->required();
  command
      ->add_option("-o,--output", o->folder,
                   "Folder; one that an interrupted run left is gone on "
                   "with")
      ->required();
  CLI::Option* shard =
      command->add_option("--shard", o->shard, "Only the I-th of N parts of the samples")
          ->type_name("I/N");
  CLI::Option* merge =
      command
          ->add_option("--merge", o->merge,
                       "Put shards together: those in the output folder and in the folders given")
          ->expected(0, 1 << 16)
          ->type_name("DIR…")
          ->excludes(shard);
  command->add_flag("--without-bubblewrap", o->without_bubblewrap,
                    "Run generated code without a sandbox: it can read what you can");
  command->add_option("--threads", o->threads, "Threads")->check(CLI::Range(1, 1024));
  command->footer(
      "Examples:\n  kquant study study.json -o results\n  kquant study study.json -o results "
      "--shard "
      "$SLURM_ARRAY_TASK_ID/8\n  kquant study study.json -o results --merge\n  mpirun -n 4 kquant "
      "study study.json -o results    (built with -DKQUANT_MPI=ON)\n"
      "CONFIG is described in kquant/eval/study.hpp; examples/embedded_model/study.json is one.");
  command->callback([o, merge] { study(*o, merge->count() > 0); });
}

}  // namespace kquant::cli
