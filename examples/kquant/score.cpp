// kquant score: judges outputs of a model on a benchmark, whoever generated them.

#include <fmt/format.h>

#include <memory>

#include "commands.hpp"
#include "kquant/eval/score.hpp"

namespace kquant::cli {

namespace {

struct Options {
  std::string outputs, task, data, rules = "123", verdicts;
  bool without_bubblewrap = false;
};

void score(const Options& o) {
  ScoreOptions options;
  options.rules = value_of(find_mmlu_pro_rules(o.rules));
  options.sandbox.without_bubblewrap = o.without_bubblewrap;
  if (o.task.empty()) {
    print(value_of(score_results(o.outputs, o.data, options, o.verdicts)));
    return;
  }
  if (o.data.empty()) give_up(ErrorCode::kInvalidArgument, "--task also needs --data");
  Evaluation out;
  out.task = value_of(find_task(o.task));
  const auto benchmark = value_of(Benchmark::load(out.task, o.data));
  auto items = value_of(read_outputs(o.outputs, *benchmark));
  check(judge(items, *benchmark, options));
  if (!o.verdicts.empty()) check(write_verdicts(o.verdicts, items, out.task));
  if (items.size() < benchmark->size())
    fmt::print("{} of {} items have no output and are left out\n", benchmark->size() - items.size(),
               benchmark->size());
  out.mode = benchmark->modes().front();
  out.has_shots = true;  // not known
  out.summary = summarize(items);
  print(out);
}

}  // namespace

void add_score(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("score", "Judge outputs on a benchmark, without a model");
  command
      ->add_option("OUTPUTS", o->outputs,
                   "Results of kquant eval, or JSONL of anybody's outputs, plain or .gz")
      ->required();
  command->add_option(
      "--task", o->task,
      "mmlu-pro, cruxeval-o, cruxeval-i or musr; not needed for results of kquant eval");
  command->add_option(
      "--data", o->data,
      "The benchmark's items: JSONL, plain or .gz (results of kquant eval name theirs)");
  command
      ->add_option("--rules", o->rules,
                   "mmlu-pro: extraction rules to use, 1, 12 or 123: 'answer is (X)', 'answer: X', "
                   "the last letter that stands alone")
      ->capture_default_str();
  command->add_option("--verdicts", o->verdicts,
                      "Write the extracted answer and verdict of every item");
  command->add_flag("--without-bubblewrap", o->without_bubblewrap,
                    "Run generated code without a sandbox: it can read what you can");
  command->footer(
      "Examples:\n  kquant score q4-mmlu.jsonl\n  kquant score --task mmlu-pro --data "
      "test.jsonl.gz outputs.jsonl.gz --rules 1 "
      "--verdicts verdicts.jsonl\nA line of OUTPUTS: {\"question_id\" | \"id\": …, "
      "\"generated_text\": \"…\" | \"generations\": [\"…\", …]}");
  command->callback([o] { score(*o); });
}

}  // namespace kquant::cli
