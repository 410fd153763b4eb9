// kquant run: a model continues a prompt.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "commands.hpp"
#include "kquant/model/chat.hpp"
#include "kquant/model/sampler.hpp"
#include "kquant/model/transformer.hpp"
#include "terminal.hpp"

namespace kquant::cli {

namespace {

struct Options {
  std::string model, prompt, system;
  int max_tokens = 128, context = 0, threads = 0;
  SamplerOptions sampler;
  bool chat = false, stats = false;
  LoadOptions load;
  KvType kv_type = KvType::kF16;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void run(const Options& o) {
  use_threads(o.threads);
  if (o.prompt.empty()) give_up(ErrorCode::kInvalidArgument, "the prompt is empty: give -p TEXT");
  Transformer model = value_of(Transformer::load(o.model, o.load));
  const Tokenizer& tokenizer = model.tokenizer();
  std::string prompt = o.prompt;
  if (o.chat) {
    std::vector<ChatMessage> messages;
    if (!o.system.empty()) messages.push_back({ChatRole::kSystem, o.system});
    messages.push_back({ChatRole::kUser, o.prompt});
    const ChatTemplate chat_template = value_of(find_chat_template(tokenizer.chat_template()));
    prompt = value_of(format_chat(chat_template, messages));
  }
  const auto tokens =
      value_of(tokenizer.encode(prompt, {.add_special = true, .parse_special = o.chat}));
  const int n_prompt = static_cast<int>(tokens.size());
  const int capacity =
      o.context > 0 ? o.context : std::min(model.config().context_length, n_prompt + o.max_tokens);
  if (n_prompt >= capacity)
    give_up(
        ErrorCode::kOutOfRange,
        fmt::format("the prompt has {} tokens and leaves no room in a context of {}: shorten it{}",
                    n_prompt, capacity, o.context > 0 ? " or raise --ctx" : ""));
  KvCache cache(model.config(), capacity, o.kv_type);
  Sampler sampler(o.sampler);
  std::vector<float> logits(static_cast<std::size_t>(model.config().vocab_size));
  const Span2d<float> last(logits.data(), 1, logits.size());

  const auto prefill_start = std::chrono::steady_clock::now();
  check(model.forward(tokens, cache, last));
  const double prefill_seconds = seconds_since(prefill_start);
  if (!o.chat) fmt::print("{}", o.prompt);
  const auto decode_start = std::chrono::steady_clock::now();
  int generated = 0, evaluated = 0;
  while (generated < o.max_tokens && !interrupted()) {
    const Token token = sampler.sample(logits);
    if (tokenizer.ends_generation(token)) break;
    const std::string piece = tokenizer.piece(token);
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
    if (++generated == o.max_tokens || cache.size() == cache.capacity()) break;
    check(model.forward({&token, 1}, cache, last));
    ++evaluated;
  }
  fmt::print("\n");
  if (o.stats)
    fmt::print(stderr, "prefill {} tokens, {:.1f} tokens/s; decode {} tokens, {:.1f} tokens/s\n",
               n_prompt, n_prompt / prefill_seconds, evaluated,
               evaluated / seconds_since(decode_start));
}

}  // namespace

void add_run(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("run", "Let a model continue a prompt");
  command->add_option("MODEL", o->model, "GGUF model")->required();
  command->add_option("-p,--prompt", o->prompt, "Prompt")->required();
  command->add_option("-n,--tokens", o->max_tokens, "Tokens to generate at most")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command
      ->add_option("--temp", o->sampler.temperature, "Temperature; 0: always the most likely token")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--top-k", o->sampler.top_k, "Sample from the K most likely tokens; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--top-p", o->sampler.top_p,
                   "Sample from the fewest tokens that hold probability P")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--seed", o->sampler.seed, "Seed of the sampler")->capture_default_str();
  command->add_option("--ctx", o->context, "Context size (default: what the prompt and -n need)")
      ->check(CLI::Range(1, 1 << 24));
  command->add_option("--threads", o->threads, "Threads")->check(CLI::Range(1, 1024));
  add_load_options(*command, o->load);
  add_device_option(*command, o->load);
  add_kv_option(*command, o->kv_type);
  command->add_flag("--chat", o->chat, "Wrap the prompt in the model's chat template");
  command->add_option("--system", o->system, "System message, with --chat");
  command->add_flag("--stats", o->stats, "Print tokens/s at the end");
  command->footer(
      "Examples:\n  kquant run model.gguf -p 'The capital of France is' -n 16 --temp 0\n  kquant "
      "run model.gguf --chat -p 'Tell me about whales'");
  command->callback([o] { run(*o); });
}

}  // namespace kquant::cli
