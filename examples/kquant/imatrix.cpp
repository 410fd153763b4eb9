// kquant imatrix: which inputs of each matrix matter, collected from a text.

#include <fmt/format.h>

#include <memory>

#include "commands.hpp"
#include "kquant/eval/calibration.hpp"
#include "kquant/model/transformer.hpp"
#include "terminal.hpp"

namespace kquant::cli {

namespace {

struct Options {
  std::string model, text, out;
  int context = 512, chunks = 0, threads = 0;
};

void imatrix(const Options& o) {
  use_threads(o.threads);
  const std::string text = read_text(o.text);
  Transformer model = value_of(Transformer::load(o.model));
  Imatrix result;
  {
    Progress progress("imatrix");
    CalibrationOptions options;
    options.context = o.context;
    options.chunks = o.chunks;
    options.progress = [&](int done, int total) {
      return progress.update(static_cast<std::size_t>(done), static_cast<std::size_t>(total));
    };
    result = value_of(collect_imatrix(model, text, options));
  }
  result.datasets = {o.text};
  check(result.save(o.out));
  fmt::print("{}: {} tensors, {} windows of {} tokens of {}\n", o.out, result.entries().size(),
             result.chunk_count, result.chunk_size, o.text);
}

}  // namespace

void add_imatrix(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("imatrix", "Collect an importance matrix from a calibration text");
  command->add_option("MODEL", o->model, "GGUF model, best at full precision")->required();
  command->add_option("-f,--file", o->text, "Calibration text ('-': standard input)")->required();
  command->add_option("-o,--output", o->out, "Importance matrix to write (GGUF)")->required();
  command->add_option("--ctx", o->context, "Tokens a window")
      ->check(CLI::Range(2, 1 << 24))
      ->capture_default_str();
  command->add_option("--chunks", o->chunks, "Windows at most (0: the whole text)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--threads", o->threads, "Threads")->check(CLI::Range(1, 1024));
  command->footer(
      "Example:\n  kquant imatrix model-f16.gguf -f calibration.txt -o model.imatrix.gguf");
  command->callback([o] { imatrix(*o); });
}

}  // namespace kquant::cli
