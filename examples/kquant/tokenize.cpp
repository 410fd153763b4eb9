// kquant tokenize: text to token ids and back.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "kquant/model/tokenizer.hpp"
#include "terminal.hpp"

namespace kquant::cli {

namespace {

struct Options {
  std::string model, file, prompt;
  std::vector<Token> decode;
  bool ids = false, json = false, no_special = false, parse_special = false;
};

void tokenize(const Options& o, bool has_prompt) {
  const gguf::File file = value_of(gguf::File::open(o.model));
  const Tokenizer tokenizer = value_of(Tokenizer::load(file));
  if (!o.decode.empty()) {
    for (const Token token : o.decode)
      if (token < 0 || static_cast<std::size_t>(token) >= tokenizer.size())
        give_up(ErrorCode::kOutOfRange,
                fmt::format("token {} is outside the vocabulary of {} tokens", token,
                            tokenizer.size()));
    const std::string text = tokenizer.decode(o.decode, true);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fputc('\n', stdout);
    return;
  }
  if (o.file.empty() && !has_prompt)
    give_up(ErrorCode::kInvalidArgument,
            "nothing to tokenize: give -p TEXT, -f FILE ('-': standard input) or --decode ID,ID,…");
  const std::string text = has_prompt ? o.prompt : read_text(o.file);
  const auto tokens = value_of(
      tokenizer.encode(text, {.add_special = !o.no_special, .parse_special = o.parse_special}));
  if (o.json) {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    for (const Token token : tokens)
      out.push_back({{"id", token}, {"text", tokenizer.stored_text(token)}});
    fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  } else if (o.ids) {
    fmt::print("{}\n", fmt::join(tokens, " "));
  } else {
    for (const Token token : tokens) fmt::print("{:>8}  {}\n", token, tokenizer.stored_text(token));
    fmt::print("{} tokens, {} bytes\n", tokens.size(), text.size());
  }
}

}  // namespace

void add_tokenize(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("tokenize", "Text to token ids and back");
  command->add_option("MODEL", o->model, "GGUF model, or its vocabulary alone")->required();
  CLI::Option* prompt = command->add_option("-p,--prompt", o->prompt, "Text");
  CLI::Option* file =
      command->add_option("-f,--file", o->file, "File with the text ('-': standard input)")
          ->excludes(prompt);
  command->add_option("--decode", o->decode, "Token ids, separated by commas, to turn into text")
      ->delimiter(',')
      ->excludes(prompt)
      ->excludes(file);
  command->add_flag("--ids", o->ids, "Only the ids, on one line");
  command->add_flag("--json", o->json, "Ids and stored texts as JSON");
  command->add_flag("--no-special", o->no_special, "Without BOS and EOS");
  command->add_flag("--parse-special", o->parse_special,
                    "Special tokens spelled in the text become tokens");
  command->footer(
      "Examples:\n  kquant tokenize model.gguf -p 'Hello world'\n  kquant tokenize model.gguf "
      "--decode 9906,1917");
  command->callback([o, prompt] { tokenize(*o, prompt->count() > 0); });
}

}  // namespace kquant::cli
