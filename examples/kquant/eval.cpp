// kquant eval: one model on one benchmark, every sample kept.

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "commands.hpp"
#include "kquant/eval/evaluation.hpp"
#include "kquant/eval/text_results.hpp"
#include "terminal.hpp"

namespace kquant::cli {

namespace {

struct Options {
  std::string model, task, mode, text_reference, results, rules = "123";
  EvaluationOptions evaluation;
  int threads = 0, text_context = 512, chunks = 0;
  LoadOptions load;
};

/// Of a model loaded with these options; on a GPU activations are what they are there.
ModelIdentity identity_of(const std::string& path, const LoadOptions& load) {
  ModelIdentity identity = value_of(identify(path));
  if (load.accelerator == nullptr) identity.activations = load.activations;
  return identity;
}

void evaluate_text(const Options& o) {
  TextEvaluationOptions options;
  options.text = o.evaluation.data;
  options.context = o.text_context;
  options.chunks = o.chunks;
  Transformer model = value_of(Transformer::load(o.model, o.load));
  const ModelIdentity identity = identity_of(o.model, o.load);
  std::optional<Transformer> reference;
  if (o.task == "divergence") {
    if (o.text_reference.empty())
      give_up(ErrorCode::kInvalidArgument, "divergence from what? Give --reference MODEL.gguf");
    reference = value_of(Transformer::load(o.text_reference, o.load));
    options.reference = identity_of(o.text_reference, o.load);
  }
  Progress progress(o.task);
  options.progress = [&](int done, int total, double so_far) {
    return progress.update(static_cast<std::size_t>(done), static_cast<std::size_t>(total),
                           fmt::format("{:.4f}", so_far));
  };
  const PerplexityResult r = value_of(
      evaluate_text(model, identity, reference ? &*reference : nullptr, options, o.results));
  fmt::print("perplexity     {:.4f} ± {:.4f}   ({} scored tokens)\n", r.perplexity,
             r.perplexity_error, r.scored_tokens);
  if (r.divergence)
    fmt::print("KL divergence  {:.6f} ± {:.6f} nats a token, same top token {:.2f} %\n",
               r.divergence->kl.mean, r.divergence->kl.error, 100 * r.divergence->same_top.mean);
}

void eval(Options& o) {
  use_threads(o.threads);
  if (o.task == "perplexity" || o.task == "divergence") return evaluate_text(o);
  o.evaluation.task = value_of(find_task(o.task));
  if (!o.mode.empty()) o.evaluation.mode = value_of(find_mode(o.mode));
  o.evaluation.score.rules = value_of(find_mmlu_pro_rules(o.rules));
  Transformer model = value_of(Transformer::load(o.model, o.load));
  const ModelIdentity identity = identity_of(o.model, o.load);
  std::optional<Evaluation> result;
  {
    Progress progress(o.task);
    o.evaluation.progress = [&](std::size_t done, std::size_t total) {
      return progress.update(done, total);
    };
    result = value_of(evaluate(model, identity, o.evaluation, o.results));
  }
  print(*result);
}

}  // namespace

void print(const Evaluation& e) {
  const Summary& s = e.summary;
  const bool code = e.task == Task::kCruxevalO || e.task == Task::kCruxevalI;
  fmt::print("{}, {}: {} items", name(e.task), name(e.mode), s.items);
  if (s.outputs > s.items) fmt::print(", {} outputs", s.outputs);
  if (e.too_long > 0)
    fmt::print("\ntoo long   {} prompts do not fit the context and were not asked", e.too_long);
  if (e.fewer_shots > 0)
    fmt::print("\nshots      {} prompts have fewer examples, to fit", e.fewer_shots);
  if (!e.has_shots && e.task == Task::kMmluPro) fmt::print("\nshots      none: 0-shot");
  fmt::print("\n{}   {:.4f} %   (95 % interval {:.2f} to {:.2f})\n", code ? "pass@1  " : "accuracy",
             100 * (code ? s.pass_1 : s.accuracy), 100 * s.interval.low, 100 * s.interval.high);
  if (code && s.least_outputs >= 5) fmt::print("pass@5     {:.4f} %\n", 100 * s.pass_5);
  if (s.rejected > 0)
    fmt::print(
        "rejected   {} outputs, skipped by the benchmark's own rules; strict pass@1 {:.4f} %\n",
        s.rejected, 100 * s.strict_pass_1);
  if (e.task == Task::kMusr)
    fmt::print("strict     {:.4f} %   (the first digit must be the right one)\n",
               100 * s.strict_accuracy);
  if (!code) fmt::print("no answer  {} outputs, scored as the expectation of a guess\n", s.guessed);
  for (const Summary::Category& category : s.categories)
    fmt::print("  {:<20} {:>6} items  {:.2f} %\n", category.name, category.items,
               100 * category.accuracy);
  const GenerationCounts& c = e.counts;
  if (c.seconds > 0)
    fmt::print(
        "speed      {:.0f} tokens/s generated; {} generated, {} of prompts computed, {} shared, "
        "{:.1f} "
        "s\n",
        static_cast<double>(c.generated_tokens) / c.seconds, c.generated_tokens, c.prompt_tokens,
        c.shared_tokens, c.seconds);
}

void add_eval(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  EvaluationOptions& e = o->evaluation;
  CLI::App* command = app.add_subcommand("eval", "A model on a benchmark, every sample kept");
  command->add_option("MODEL", o->model, "GGUF model")->required();
  command
      ->add_option("--task", o->task,
                   "mmlu-pro, cruxeval-o, cruxeval-i, musr, perplexity or divergence")
      ->required();
  command->add_option("--data", e.data, "Items (JSONL, plain or .gz), or the text")->required();
  command
      ->add_option("-o,--output", o->results,
                   "Results; a file that an interrupted run left is gone on with")
      ->required();
  command->add_option("--limit", e.limit, "Items at most, drawn by --seed");
  command->add_option("--seed", e.seed, "Seed of the draw and of sampling")->capture_default_str();
  command->add_option("--shots", e.shots, "Worked examples: a file of the benchmark's shape");
  command->add_option("--mode", o->mode,
                      "direct, cot (reasoning first), cot+ (musr: also a hint and an example) or "
                      "loglik (likeliest choice)");
  command->add_flag("--chat", e.chat, "Ask in the model's chat template");
  command->add_option("--samples", e.samples, "Samples of each item")->check(CLI::PositiveNumber);
  command->add_option("--temp", e.sampler.temperature, "Temperature; 0: always the likeliest token")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--top-p", e.sampler.top_p, "Sample from the fewest tokens of probability P")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--ctx", e.context, "Tokens of prompt and answer (default: at most 4096)");
  command->add_option("--max-tokens", e.max_tokens, "Of an answer (default: the benchmark's)");
  command->add_option("--batch", e.batch, "Sequences side by side")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_flag_callback(
      "--one-at-a-time",
      [&e] {
        e.batch = 1;
        e.share_prefixes = false;
      },
      "One sequence after another, nothing shared: what batching is measured against");
  command->add_option("--rules", o->rules, "mmlu-pro: extraction rules, 1, 12 or 123")
      ->capture_default_str();
  command->add_flag("--without-bubblewrap", e.score.sandbox.without_bubblewrap,
                    "Run generated code without a sandbox: it can read what you can");
  command->add_option("--window", o->text_context, "perplexity, divergence: tokens a window")
      ->check(CLI::Range(4, 1 << 24))
      ->capture_default_str();
  command->add_option("--chunks", o->chunks, "perplexity, divergence: windows at most (0: all)")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--reference", o->text_reference, "divergence: GGUF model to compare with");
  command->add_option("--threads", o->threads, "Threads")->check(CLI::Range(1, 1024));
  add_load_options(*command, o->load);
  add_device_option(*command, o->load);
  command->footer(
      "Examples:\n  kquant eval model-q4.gguf --task mmlu-pro --data test.jsonl.gz --shots "
      "validation.jsonl --limit 500 -o q4-mmlu.jsonl\n  kquant eval model-q4.gguf --task "
      "cruxeval-o "
      "--data cruxeval.jsonl --samples 10 --temp 0.2 -o q4-crux.jsonl");
  command->callback([o] { eval(*o); });
}

}  // namespace kquant::cli
