// Tokens a second of whole models: a prompt of 512 tokens, decoding of 128, and decoding of several
// sequences at once; with --profile the share of each stage.
//
//     model_bench model-q4_k_m.gguf [-p 512] [-n 128] [--batch 8] [-r 5] [--profile] [--json]
//                 [--device cuda[:0,1]]
//
// Counted as llama-bench counts: a prompt from an empty cache, and decoding from an empty cache.

#include <fmt/format.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>

#include "give_up.hpp"
#include "kquant/cuda.hpp"
#include "kquant/dispatch.hpp"
#include "kquant/model/transformer.hpp"

namespace {

using namespace kquant;
using bench::check;
using bench::value_of;
using Clock = std::chrono::steady_clock;

struct Options {
  std::vector<std::string> models;
  int prompt = 512, decode = 128, repetitions = 5;
  std::vector<int> batches;
  bool profile = false, json = false, keep_mapped = false;
  std::string device = "cpu";
  KvType kv_type = KvType::kF16;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Seconds of each stage.
struct Profile {
  std::array<double, kStages> seconds{};
  Clock::time_point last;

  void attach(Transformer& model) {
    model.profile([this](Stage stage) {
      const auto now = Clock::now();
      seconds[static_cast<std::size_t>(stage)] += std::chrono::duration<double>(now - last).count();
      last = now;
    });
  }
};

/// One kind of measurement: a name, the tokens that a run of it counts, and the run.
struct Case {
  std::string name;
  int tokens;
  std::function<void()> run;
  std::vector<double> seconds = {};
  Profile profile = {};

  double median() const {
    std::vector<double> sorted = seconds;
    std::ranges::sort(sorted);
    return sorted[sorted.size() / 2];
  }
};

class Bench {
 public:
  Bench(const Options& options, const std::string& path)
      : options_(options), model_(load(options, path)) {
    const auto vocab_size = static_cast<std::size_t>(model_.config().vocab_size);
    const int most_batch = options.batches.empty() ? 1 : std::ranges::max(options.batches);
    logits_.resize(static_cast<std::size_t>(most_batch) * vocab_size);
    for (int i = 0; i < std::max(options.prompt, options.decode); ++i)
      tokens_.push_back(static_cast<Token>((i * 7919 + 13) % model_.config().vocab_size));
    const int capacity = std::max(options.prompt, options.decode);
    for (int i = 0; i < most_batch; ++i)
      caches_.emplace_back(model_.config(), capacity, options.kv_type);

    if (options.prompt > 0)
      cases_.push_back({fmt::format("prefill {}", options.prompt), options.prompt, [this] {
                          const auto n = static_cast<std::size_t>(options_.prompt);
                          forward(std::span(tokens_).first(n), 1);
                        }});
    if (options.decode > 0)
      cases_.push_back({fmt::format("decode {}", options.decode), options.decode, [this] {
                          for (int i = 0; i < options_.decode; ++i) step(i, 1);
                        }});
    for (const int batch : options.batches)
      cases_.push_back({fmt::format("decode {} x {}", batch, options.decode),
                        batch * options.decode, [this, batch] {
                          for (int i = 0; i < options_.decode; ++i) step(i, batch);
                        }});
  }

  /// All cases in turn, once; the first time only warms up.
  void round(bool counts) {
    for (Case& c : cases_) {
      for (KvCache& cache : caches_) cache.clear();
      if (options_.profile && counts) c.profile.attach(model_);
      const auto start = c.profile.last = Clock::now();
      c.run();
      if (counts) c.seconds.push_back(seconds_since(start));
      model_.profile({});
    }
  }

  const std::vector<Case>& cases() const { return cases_; }

 private:
  static Transformer load(const Options& options, const std::string& path) {
    LoadOptions load{.weights = options.keep_mapped ? Layout::kRows : Layout::kPacked};
    if (options.device != "cpu") {
      const auto gpus = value_of(cuda::open_devices(options.device));
      load.accelerator = value_of(cuda::accelerator_of(gpus));
    }
    return value_of(Transformer::load(path, load));
  }

  void forward(std::span<const Token> tokens, int batch) {
    sequences_.clear();
    for (int i = 0; i < batch; ++i)
      sequences_.push_back({tokens, &caches_[static_cast<std::size_t>(i)]});
    const auto vocab_size = static_cast<std::size_t>(model_.config().vocab_size);
    check(model_.forward_batch(sequences_,
                               {logits_.data(), static_cast<std::size_t>(batch), vocab_size}));
  }
  void step(int i, int batch) {
    forward(std::span(tokens_).subspan(static_cast<std::size_t>(i), 1), batch);
  }

  const Options& options_;
  Transformer model_;
  std::vector<Token> tokens_;
  std::vector<KvCache> caches_;
  std::vector<Sequence> sequences_;
  std::vector<float> logits_;
  std::vector<Case> cases_;
};

void print_profile(const std::vector<Case>& cases) {
  fmt::print("\n{:<18}", "stage");
  for (const Case& c : cases) fmt::print("{:>16}", c.name);
  fmt::print("\n");
  for (int stage = 0; stage < kStages; ++stage) {
    fmt::print("{:<18}", name(static_cast<Stage>(stage)));
    for (const Case& c : cases) {
      double total = 0;
      for (const double s : c.profile.seconds) total += s;
      fmt::print("{:>14.1f} %", 100 * c.profile.seconds[static_cast<std::size_t>(stage)] / total);
    }
    fmt::print("\n");
  }
}

nlohmann::ordered_json json_of(const std::string& path, const std::vector<Case>& cases) {
  nlohmann::ordered_json out{{"model", path},
                             {"isa", name(current_isa())},
                             {"threads", omp_get_max_threads()},
                             {"cases", nlohmann::ordered_json::array()}};
  for (const Case& c : cases)
    out["cases"].push_back({{"name", c.name},
                            {"tokens_per_second", c.tokens / c.median()},
                            {"tokens", c.tokens},
                            {"seconds", c.seconds}});
  return out;
}

void run(const Options& options, const std::string& path) {
  Bench bench(options, path);
  bench.round(false);
  for (int i = 0; i < options.repetitions; ++i) bench.round(true);
  if (options.json) {
    fmt::print("{}\n", json_of(path, bench.cases()).dump(2));
    return;
  }
  fmt::print("{}, {} threads, {}\n", path, omp_get_max_threads(), name(current_isa()));
  for (const Case& c : bench.cases())
    fmt::print("  {:<18}{:>10.1f} tokens/s\n", c.name, c.tokens / c.median());
  if (options.profile) print_profile(bench.cases());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  int threads = 0;
  CLI::App app{"Tokens a second of whole models"};
  app.add_option("MODEL", options.models, "GGUF models")->required();
  app.add_option("-p", options.prompt, "Tokens of the prompt; 0: none")->capture_default_str();
  app.add_option("-n", options.decode, "Tokens to decode; 0: none")->capture_default_str();
  app.add_option("--batch", options.batches, "Sequences decoded at once, a comma-separated list")
      ->delimiter(',')
      ->check(CLI::Range(1, 512));
  app.add_option("-r", options.repetitions, "Repetitions; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("-t,--threads", threads, "Threads")->check(CLI::Range(1, 1024));
  app.add_option("--kv-type", options.kv_type, "f16, f32 or q8_0")
      ->transform(CLI::CheckedTransformer(std::map<std::string, KvType>{
          {"f16", KvType::kF16}, {"f32", KvType::kF32}, {"q8_0", KvType::kQ8_0}}));
  app.add_flag("--keep-mapped", options.keep_mapped, "Weights as they lie in the file");
  app.add_option("--device", options.device, "cpu, cuda, cuda:N, cuda:N,M,... or cuda:all");
  app.add_flag("--profile", options.profile, "The share of each stage (of the CPU)");
  app.add_flag("--json", options.json, "Results as JSON");
  CLI11_PARSE(app, argc, argv);
  if (threads > 0) omp_set_num_threads(threads);
  for (const std::string& path : options.models) run(options, path);
  return 0;
}
