// Any bytes as a model, quantized to a recipe chosen by its length.

#include <unistd.h>

#include <filesystem>
#include <string>

#include "fuzz/fuzz.hpp"
#include "kquant/quantize_model.hpp"

namespace {

// A folder that the process removes at its end.
struct OutputFolder {
  OutputFolder()
      : path(std::filesystem::temp_directory_path() /
             ("kquant-fuzz-" + std::to_string(::getpid()))) {
    std::filesystem::create_directory(path);
  }
  ~OutputFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::filesystem::path path;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kquant;
  static const OutputFolder folder;
  const auto file = gguf::File::parse(fuzz::as_bytes(data, size), "fuzz");
  if (!file) return 0;
  const Recipe& recipe = recipes()[size % recipes().size()];
  QuantizeModelOptions options;
  options.threads = 1;
  for (const bool dry_run : {true, false}) {
    options.dry_run = dry_run;
    const std::filesystem::path out = folder.path / "out.gguf";
    const auto report = quantize_model(*file, out, recipe, options);
    if (!report) {
      fuzz::check(report.error());
      return 0;
    }
    fuzz::require(dry_run || gguf::File::open(out).has_value(), "what was written can be read");
  }
  return 0;
}
