// kquant perplexity: how well a model predicts a text, and how far it is from a reference model.

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.hpp"
#include "kquant/eval/perplexity.hpp"
#include "kquant/eval/text_results.hpp"
#include "terminal.hpp"

namespace kquant::cli {

namespace {

struct Options {
  std::string model, text, reference;
  int context = 512, chunks = 0, threads = 0;
  bool json = false;
  LoadOptions load;
  KvType kv_type = KvType::kF16;
};

nlohmann::ordered_json json_of(const Options& o, const PerplexityResult& r) {
  nlohmann::ordered_json out = {{"model", o.model}, {"text", o.text}, {"context", o.context}};
  out.update(nlohmann::ordered_json::parse(kquant::json_of(r)));
  if (r.divergence) out["divergence"]["reference"] = o.reference;
  return out;
}

void print(const PerplexityResult& r) {
  fmt::print("perplexity      {:.4f} ± {:.4f}   ({} windows, {} scored tokens, {:.0f} tokens/s)\n",
             r.perplexity, r.perplexity_error, r.chunks, r.scored_tokens, r.tokens_per_second);
  if (!r.divergence) return;
  const Divergence& d = *r.divergence;
  fmt::print("reference       {:.4f}, ln(PPL / reference) {:.6f} ± {:.6f}\n",
             d.reference_perplexity, d.log_ratio.mean, d.log_ratio.error);
  fmt::print("KL divergence   {:.6f} ± {:.6f} nats a token\n", d.kl.mean, d.kl.error);
  fmt::print(
      "  percentiles   50% {:.6f}   90% {:.6f}   95% {:.6f}   99% {:.6f}   99.9% {:.6f}   max "
      "{:.6f}\n",
      d.kl_median, d.kl_p90, d.kl_p95, d.kl_p99, d.kl_p999, d.kl_max);
  fmt::print("same top token  {:.3f} ± {:.3f} %\n", 100 * d.same_top.mean, 100 * d.same_top.error);
  fmt::print("RMS Δp          {:.3f} ± {:.3f} %\n", 100 * d.rms_probability.mean,
             100 * d.rms_probability.error);
}

void perplexity_command(const Options& o) {
  use_threads(o.threads);
  const std::string text = read_text(o.text);
  Transformer model = value_of(Transformer::load(o.model, o.load));
  std::optional<Transformer> reference;
  if (!o.reference.empty()) reference = value_of(Transformer::load(o.reference, o.load));
  PerplexityResult result;
  {
    Progress progress("perplexity");
    PerplexityOptions options;
    options.context = o.context;
    options.chunks = o.chunks;
    options.kv_type = o.kv_type;
    options.progress = [&](int done, int total, double so_far) {
      return progress.update(static_cast<std::size_t>(done), static_cast<std::size_t>(total),
                             fmt::format("{:.4f}", so_far));
    };
    result = value_of(perplexity(model, text, options, reference ? &*reference : nullptr));
  }
  if (o.json)
    fmt::print("{}\n", json_of(o, result).dump(2));
  else
    print(result);
}

}  // namespace

void add_perplexity(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "perplexity", "Perplexity on a text; with a reference also the KL divergence from it");
  command->add_option("MODEL", o->model, "GGUF model")->required();
  command->add_option("-f,--file", o->text, "Text ('-': standard input)")->required();
  command->add_option("--ctx", o->context, "Tokens a window; the second half of each is scored")
      ->check(CLI::Range(4, 1 << 24))
      ->capture_default_str();
  command->add_option("--chunks", o->chunks, "Windows at most (0: the whole text)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--reference", o->reference, "GGUF model to compare with, run side by side");
  command->add_option("--threads", o->threads, "Threads")->check(CLI::Range(1, 1024));
  add_load_options(*command, o->load);
  add_device_option(*command, o->load);
  add_kv_option(*command, o->kv_type);
  command->add_flag("--json", o->json, "Result as JSON");
  command->footer(
      "Example:\n  kquant perplexity model-q4.gguf -f test.txt --chunks 20 --reference "
      "model-f16.gguf");
  command->callback([o] { perplexity_command(*o); });
}

}  // namespace kquant::cli
