// 04: what does each quantization level cost? Quantizes a model to every recipe, compares each with
// the original on a text, prints a table and draws it.
//
//     04_recipe_table MODEL.gguf TEST.txt CALIBRATION.txt OUTPUT_FOLDER
//
// Leaves in the folder: the quantized models, recipes.svg, recipes.md and recipes.json.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "chart.hpp"
#include "kquant/base/atomic_file.hpp"
#include "kquant/eval/calibration.hpp"
#include "kquant/eval/perplexity.hpp"
#include "kquant/model/sampler.hpp"
#include "kquant/quantize_model.hpp"

namespace {

using namespace kquant;
namespace fs = std::filesystem;

/// One line of the table.
struct Row {
  std::string name;
  double bits_per_weight = 0;
  std::uint64_t bytes = 0;
  PerplexityResult quality;
  double decode_tokens_per_second = 0;
  bool with_imatrix = false;
};

Result<std::string> read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(ErrorCode::kIo, path.string() + ": cannot read");
  return std::string{std::istreambuf_iterator<char>(in), {}};
}

/// Tokens a second, one at a time, the median of three runs.
Result<double> decode_speed(Transformer& model) {
  constexpr int kTokens = 64;
  std::vector<float> logits(static_cast<std::size_t>(model.config().vocab_size));
  std::vector<double> speeds;
  for (int run = 0; run < 3; ++run) {
    KvCache cache(model.config(), kTokens);
    Sampler greedy({.temperature = 0});
    Token token = model.tokenizer().bos().value_or(0);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kTokens; ++i) {
      if (auto done = model.forward({&token, 1}, cache, {logits.data(), 1, logits.size()}); !done)
        return fail(done.error());
      token = greedy.sample(logits);
    }
    speeds.push_back(
        kTokens / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(speeds.begin(), speeds.end());
  return speeds[1];
}

Result<Row> measure(const fs::path& path, std::string name, const std::string& text,
                    Transformer& original) {
  auto model = Transformer::load(path);
  if (!model) return fail(model.error());
  auto quality = perplexity(*model, text, {}, &original);
  if (!quality) return fail(quality.error());
  auto speed = decode_speed(*model);
  if (!speed) return fail(speed.error());
  double weights = 0, bytes = 0;
  for (const gguf::Tensor& tensor : model->file().tensors()) {
    weights += static_cast<double>(tensor.size());
    bytes += static_cast<double>(tensor.data.size());
  }
  return Row{
      std::move(name), 8 * bytes / weights, model->file().total_bytes(), *quality, *speed, false};
}

std::string markdown(const std::vector<Row>& rows) {
  std::string out =
      "| recipe | bits/weight | size, MiB | perplexity | KL divergence, nats | same top token | "
      "decode, tokens/s |\n"
      "|---|--:|--:|--:|--:|--:|--:|\n";
  bool any_imatrix = false;
  for (const Row& row : rows) {
    const Divergence& d = *row.quality.divergence;
    any_imatrix |= row.with_imatrix;
    out += fmt::format(
        "| {}{} | {:.4f} | {:.2f} | {:.4f} ± {:.4f} | {:.6f} ± {:.6f} | {:.2f} % | {:.0f} |\n",
        row.name, row.with_imatrix ? " \\*" : "", row.bits_per_weight,
        static_cast<double>(row.bytes) / (1 << 20), row.quality.perplexity,
        row.quality.perplexity_error, d.kl.mean, d.kl.error, 100 * d.same_top.mean,
        row.decode_tokens_per_second);
  }
  if (any_imatrix)
    out +=
        "\n\\* with an importance matrix from the calibration text, which this recipe requires\n";
  return out;
}

nlohmann::ordered_json json(const std::vector<Row>& rows) {
  auto out = nlohmann::ordered_json::array();
  for (const Row& row : rows) {
    const Divergence& d = *row.quality.divergence;
    out.push_back({{"recipe", row.name},
                   {"bits_per_weight", row.bits_per_weight},
                   {"bytes", row.bytes},
                   {"perplexity", row.quality.perplexity},
                   {"perplexity_error", row.quality.perplexity_error},
                   {"kl_divergence", d.kl.mean},
                   {"kl_error", d.kl.error},
                   {"same_top", d.same_top.mean},
                   {"decode_tokens_per_second", row.decode_tokens_per_second},
                   {"imatrix", row.with_imatrix}});
  }
  return out;
}

Result<void> write_text(const fs::path& path, const std::string& text) {
  auto file = AtomicFile::create(path);
  if (!file) return fail(file.error());
  if (auto written = file->write(std::as_bytes(std::span(text))); !written) return written;
  return file->commit();
}

Result<void> make_table(const fs::path& model_path, const fs::path& text_path,
                        const fs::path& calibration_path, const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(ErrorCode::kIo, folder.string() + ": cannot create: " + error.message());
  const auto text = read_text(text_path);
  if (!text) return fail(text.error());
  const auto calibration = read_text(calibration_path);
  if (!calibration) return fail(calibration.error());
  auto original = Transformer::load(model_path);
  if (!original) return fail(original.error());
  fmt::print("collecting an importance matrix from {}\n", calibration_path.string());
  const auto imatrix = collect_imatrix(*original, *calibration);
  if (!imatrix) return fail(imatrix.error());

  std::vector<Row> rows;
  for (const Recipe& recipe : recipes()) {
    if (type_info(recipe.base).support == Support::kPlain) continue;  // a conversion, not a level
    const fs::path quantized =
        folder / fmt::format("{}-{}.gguf", model_path.stem().string(), recipe.name);
    QuantizeModelOptions options;
    if (recipe.needs_imatrix) options.imatrix = &*imatrix;
    if (auto report = quantize_model(original->file(), quantized, recipe, options); !report)
      return fail(report.error());
    auto row = measure(quantized, std::string(recipe.name), *text, *original);
    if (!row) return fail(row.error());
    row->with_imatrix = recipe.needs_imatrix;
    fmt::print("{:<7} {:.4f} bits/weight, perplexity {:.4f}, KL divergence {:.6f}\n", row->name,
               row->bits_per_weight, row->quality.perplexity, row->quality.divergence->kl.mean);
    std::fflush(stdout);
    rows.push_back(std::move(*row));
  }
  auto reference = measure(model_path, "F16", *text, *original);
  if (!reference) return fail(reference.error());

  std::vector<ChartPoint> points;
  for (const Row& row : rows)
    points.push_back({row.name, row.bits_per_weight, row.quality.divergence->kl.mean,
                      row.quality.divergence->kl.error, row.quality.perplexity});
  const std::string title = fmt::format("{}: the cost of each recipe", model_path.stem().string());
  if (auto drawn =
          write_chart(folder / "recipes.svg", title, points, reference->quality.perplexity);
      !drawn)
    return drawn;
  rows.push_back(std::move(*reference));
  if (auto written = write_text(folder / "recipes.md", markdown(rows)); !written) return written;
  if (auto written = write_text(folder / "recipes.json", json(rows).dump(2) + "\n"); !written)
    return written;
  fmt::print("\n{}\nwritten: {}\n", markdown(rows), (folder / "recipes.{svg,md,json}").string());
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    fmt::print(stderr,
               "usage: 04_recipe_table MODEL.gguf TEST.txt CALIBRATION.txt OUTPUT_FOLDER\n");
    return 2;
  }
  const auto done = make_table(argv[1], argv[2], argv[3], argv[4]);
  if (!done) fmt::print(stderr, "{}\n", done.error().message);
  return done ? 0 : 1;
}
