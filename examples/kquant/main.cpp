// kquant: the command line of the library. Each command is a thin file of its own; what it does,
// the library does.

#include <fmt/format.h>

#include "commands.hpp"
#include "kquant/dispatch.hpp"
#include "terminal.hpp"

namespace {

/// Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
constexpr int kFailed = 1, kUsage = 2, kInterrupted = 130;

}  // namespace

void kquant::cli::add_load_options(CLI::App& command, LoadOptions& options) {
  command.add_flag_callback(
      "--keep-mapped", [&options] { options.weights = Layout::kRows; },
      "Use the weights where they lie in the file: loads at once, runs slower");
  static const std::map<std::string, ActivationPrecision> kPrecisions{
      {"int8", ActivationPrecision::kInt8}, {"f32", ActivationPrecision::kFloat}};
  command
      .add_option(
          "--activations", options.activations,
          "Activations that meet quantized weights on the CPU: int8, as llama.cpp's and the "
          "fastest kernels do, or f32: 4 bytes a weight, slower, what a GPU's results "
          "compare with. A GPU, which rounds none to int8, ignores it")
      ->transform(CLI::CheckedTransformer(kPrecisions, CLI::ignore_case).description("TYPE"))
      ->default_str("int8");
}

namespace {

using namespace kquant;

void add_device_option(CLI::App& command, const std::string& description,
                       std::function<void(const std::vector<cuda::Device>&)> use) {
  command
      .add_option_function<std::string>(
          "--device",
          [use = std::move(use)](const std::string& names) {
            if (names == "cpu") return;
            auto devices = cuda::open_devices(names);
            if (!devices && devices.error().code == ErrorCode::kInvalidArgument)
              throw CLI::ValidationError("--device", devices.error().message);
            use(cli::value_of(std::move(devices)));
          },
          description)
      ->type_name("DEVICE")
      ->default_str("cpu");
}

}  // namespace

void kquant::cli::add_device_option(CLI::App& command, LoadOptions& options) {
  ::add_device_option(
      command,
      "Where the model runs: cpu, cuda (the first NVIDIA GPU), cuda:N, or divided among several: "
      "cuda:N,M,... or cuda:all",
      [&options](const std::vector<cuda::Device>& devices) {
        options.accelerator = value_of(cuda::accelerator_of(devices));
      });
}

void kquant::cli::add_device_option(CLI::App& command, const std::string& what,
                                    std::function<void(const cuda::Device&)> use) {
  ::add_device_option(command, "Where " + what + ": cpu, cuda (the first NVIDIA GPU) or cuda:N",
                      [use = std::move(use)](const std::vector<cuda::Device>& devices) {
                        if (devices.size() > 1)
                          throw CLI::ValidationError("--device", "one GPU at most");
                        use(devices.front());
                      });
}

void kquant::cli::add_kv_option(CLI::App& command, KvType& type) {
  static const std::map<std::string, KvType> kTypes{
      {"f16", KvType::kF16}, {"f32", KvType::kF32}, {"q8_0", KvType::kQ8_0}};
  command
      .add_option("--kv-type", type,
                  "Keys and values of tokens seen: f16, f32, or q8_0 (half the memory of f16)")
      ->transform(CLI::CheckedTransformer(kTypes, CLI::ignore_case).description("TYPE"))
      ->default_str("f16");
}

int main(int argc, char** argv) {
  using namespace kquant;
  cli::wait_briefly(argv);
  CLI::App app{"kquant: what does each quantization level of a GGUF model cost?"};
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer(
      "Examples:\n"
      "  kquant inspect model-f16.gguf\n"
      "  kquant quantize model-f16.gguf model-q4.gguf Q4_K_M\n"
      "  kquant perplexity model-q4.gguf -f test.txt --reference model-f16.gguf\n"
      "'kquant COMMAND --help' has more. KQUANT_ISA=scalar|avx2|avx512vnni|neon|neon_dotprod|"
      "neon_i8mm picks the kernels.");
  cli::add_inspect(app);
  cli::add_quantize(app);
  cli::add_imatrix(app);
  cli::add_run(app);
  cli::add_perplexity(app);
  cli::add_tokenize(app);
  cli::add_blocks(app);
  cli::add_eval(app);
  cli::add_score(app);
  cli::add_study(app);
  cli::add_report(app);
  cli::watch_for_interrupts();
  if (!isa_warning().empty()) fmt::print(stderr, "kquant: warning: {}\n", isa_warning());
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : kUsage;
  } catch (const cli::Failure& failure) {
    if (cli::interrupted()) {
      fmt::print(stderr, "kquant: interrupted\n");
      return kInterrupted;
    }
    fmt::print(stderr, "kquant: {}\n", failure.error.message);
    return kFailed;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "kquant: out of memory\n");
    return kFailed;
  }
  return 0;
}
