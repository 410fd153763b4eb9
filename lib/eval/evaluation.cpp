#include "kquant/eval/evaluation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>
#include <unordered_map>
#include <unordered_set>

#include "eval/asker.hpp"
#include "eval/results.hpp"
#include "kquant/eval/content_hash.hpp"

namespace kquant {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kUsualWindow = 4096;

/// The items that are asked: all, or a draw of `limit` that depends on the seed alone.
std::vector<std::size_t> draw(std::size_t size, std::size_t limit, std::uint64_t seed) {
  std::vector<std::size_t> items(size);
  std::iota(items.begin(), items.end(), std::size_t{0});
  if (limit == 0 || limit >= size) return items;
  std::mt19937_64 random(seed);
  for (std::size_t i = 0; i < limit; ++i) std::swap(items[i], items[i + random() % (size - i)]);
  items.resize(limit);
  std::ranges::sort(items);
  return items;
}

Result<ResultsJson> describe_file(const fs::path& path) {
  auto hash = file_hash(path);
  if (!hash) return fail(hash.error());
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  return ResultsJson{{"file", (error ? path : absolute).string()}, {"hash", *hash}};
}

Result<ResultsJson> header_of(const ModelIdentity& model, const EvaluationOptions& o, Mode mode,
                              std::size_t window) {
  ResultsJson header = {{"kquant_results", 1},
                        {"task", name(o.task)},
                        {"mode", name(mode)},
                        {"model", json_of(model)}};
  auto data = describe_file(o.data);
  if (!data) return fail(data.error());
  header["data"] = *data;
  header["shots"] = nullptr;
  if (!o.shots.empty()) {
    auto shots = describe_file(o.shots);
    if (!shots) return fail(shots.error());
    header["shots"] = *shots;
  }
  const bool greedy = !(o.sampler.temperature > 0);
  header["settings"] = {{"chat", o.chat},
                        {"limit", o.limit},
                        {"seed", o.limit == 0 && greedy ? 0 : o.seed},
                        {"samples", o.samples},
                        {"temperature", o.sampler.temperature},
                        {"top_k", greedy ? 0 : o.sampler.top_k},
                        {"top_p", greedy ? 1.0f : o.sampler.top_p},
                        {"context", window},
                        {"max_tokens", o.max_tokens}};
  header["shard"] = {o.shard.index, o.shard.count};
  return header;
}

/// What stands for one sample in a file of results.
std::string key_of(const std::string& id, std::size_t sample) {
  return fmt::format("{}/{}", sample, id);
}
std::string key_of(const ResultsJson& line) {
  return key_of(line.value("id", std::string()), line.value("sample", std::size_t{0}));
}

/// The answers of a file of results as scored items, in the benchmark's order.
/// `lines` gets the number of each output's line.
Result<std::vector<ScoredItem>> items_of(ResultsFile& results, const Benchmark& benchmark,
                                         std::vector<std::size_t>& lines) {
  std::unordered_map<std::string_view, std::size_t> index;
  for (std::size_t i = 0; i < benchmark.size(); ++i) index.emplace(benchmark.id(i), i);
  for (const ResultsJson& line : results.lines)
    if (!index.contains(line.value("id", std::string())))
      return fail(ErrorCode::kBadFile,
                  fmt::format("sample '{}' is of an item that the data do not have",
                              line.value("id", std::string())));
  std::ranges::stable_sort(results.lines, {}, [&](const ResultsJson& line) {
    return std::pair(index[line.value("id", std::string())], line.value("sample", std::size_t{0}));
  });
  auto items = scored_items(results, &lines);
  if (!items) return items;
  for (ScoredItem& item : *items) item.item = index[item.id];
  return items;
}

/// Where a choice was made by likelihood there is nothing to extract.
Result<void> judge_results(std::vector<ScoredItem>& items, const ResultsFile& results,
                           std::span<const std::size_t> lines, const Benchmark& benchmark,
                           Mode mode, const ScoreOptions& options) {
  for (ScoredItem& item : items) item.verdicts.clear();
  if (mode != Mode::kLoglik) return judge(items, benchmark, options);
  std::size_t next = 0;
  for (ScoredItem& item : items)
    for (std::size_t i = 0; i < item.outputs.size(); ++i) {
      const ResultsJson& line = results.lines[lines[next++]];
      const auto choices = benchmark.choices(item.item).size();
      const auto choice = line.value("choice", choices);
      Verdict verdict;
      verdict.guessed = choice >= choices;
      if (!verdict.guessed) verdict.extracted = std::to_string(choice + 1);
      verdict.score = verdict.guessed ? 1.0 / static_cast<double>(choices)
                      : choice == benchmark.right_choice(item.item) ? 1
                                                                    : 0;
      verdict.strict_score = verdict.score;
      item.verdicts.push_back(std::move(verdict));
    }
  return {};
}

/// What the lines say beside the verdicts.
void count_prompts(const ResultsFile& results, std::span<const ScoredItem> items,
                   const Benchmark& benchmark, Evaluation& out) {
  std::unordered_map<std::string, int> shots;
  for (const ScoredItem& item : items) shots[item.id] = benchmark.shots(item.item, out.mode);
  for (const ResultsJson& line : results.lines) {
    const int most = shots[line.value("id", std::string())];
    out.too_long += line.value("finish", "") == "too_long";
    out.has_shots = out.has_shots || most > 0;
    out.fewer_shots += line.value("shots", most) < most;
  }
}

/// Of a complete file: its verdicts are there.
Result<Evaluation> read_back(ResultsFile& results, const Benchmark& benchmark, Task task,
                             Mode mode) {
  std::vector<std::size_t> lines;
  auto items = items_of(results, benchmark, lines);
  if (!items) return fail(items.error());
  Evaluation out;
  out.task = task;
  out.mode = mode;
  out.summary = summarize(*items);
  count_prompts(results, *items, benchmark, out);
  return out;
}

/// Judges and sums up; puts the verdicts into the lines and the lines in order.
Result<Evaluation> conclude(ResultsFile& results, const Benchmark& benchmark, Task task, Mode mode,
                            const ScoreOptions& options,
                            std::vector<ScoredItem>* judged = nullptr) {
  std::vector<std::size_t> lines;
  auto items = items_of(results, benchmark, lines);
  if (!items) return fail(items.error());
  if (auto done = judge_results(*items, results, lines, benchmark, mode, options); !done)
    return fail(done.error());
  Evaluation out;
  out.task = task;
  out.mode = mode;
  out.summary = summarize(*items);
  std::size_t next = 0;
  for (const ScoredItem& item : *items)
    for (const Verdict& verdict : item.verdicts) {
      ResultsJson& line = results.lines[lines[next++]];
      line["extracted"] =
          verdict.extracted ? ResultsJson(*verdict.extracted) : ResultsJson(nullptr);
      line["verdict"] = !verdict.guessed && verdict.score > 0.5;
      line["score"] = verdict.score;
      line["strict_score"] = verdict.strict_score;
      if (verdict.rejected) line["rejected"] = true;
    }
  count_prompts(results, *items, benchmark, out);
  if (judged) *judged = std::move(*items);
  return out;
}

/// What is to be found out, as far as it does not take the model.
struct Plan {
  std::unique_ptr<Benchmark> benchmark;
  Mode mode = Mode::kDirect;
  std::size_t window = 0;
  ResultsJson header;

  static Result<Plan> make(const ModelIdentity& identity, int context_length,
                           const EvaluationOptions& options) {
    Plan plan;
    auto benchmark = Benchmark::load(options.task, options.data, options.shots);
    if (!benchmark) return fail(benchmark.error());
    plan.benchmark = std::move(*benchmark);
    const auto modes = plan.benchmark->modes();
    plan.mode = options.mode.value_or(modes.front());
    if (std::ranges::find(modes, plan.mode) == modes.end())
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("the task {} has no mode {}", name(options.task), name(plan.mode)));
    if (options.shard.count == 0 || options.shard.index >= options.shard.count)
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("shard {} of {}: expected an index below the count",
                              options.shard.index, options.shard.count));
    if (options.samples == 0 || (options.samples > 1 && !(options.sampler.temperature > 0)))
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{} samples of each item at temperature {}: several need a "
                              "temperature over 0",
                              options.samples, options.sampler.temperature));
    plan.window = options.context > 0
                      ? options.context
                      : std::min(kUsualWindow, static_cast<std::size_t>(context_length));
    auto header = header_of(identity, options, plan.mode, plan.window);
    if (!header) return fail(header.error());
    plan.header = std::move(*header);
    return plan;
  }

  /// (item, sample) of this shard that the results do not have.
  std::vector<std::pair<std::size_t, std::size_t>> missing(const ResultsFile& results,
                                                           const EvaluationOptions& options) const {
    std::unordered_set<std::string> answered;
    for (const ResultsJson& line : results.lines) answered.insert(key_of(line));
    std::vector<std::pair<std::size_t, std::size_t>> out;
    std::size_t number = 0;
    for (const std::size_t item : draw(benchmark->size(), options.limit, options.seed))
      for (std::size_t sample = 0; sample < options.samples; ++sample)
        if (number++ % options.shard.count == options.shard.index &&
            !answered.contains(key_of(benchmark->id(item), sample)))
          out.emplace_back(item, sample);
    return out;
  }
};

/// A sample that is still to be asked, and how.
struct Work {
  std::size_t item, sample;
  Asked asked;
};

ResultsJson line_of(const Benchmark& benchmark, const Work& work) {
  return {
      {"id", benchmark.id(work.item)}, {"category", benchmark.category(work.item)},
      {"sample", work.sample},         {"prompt_hash", content_hash(work.asked.text).substr(0, 16)},
      {"shots", work.asked.shots},     {"prompt_tokens", work.asked.tokens.size()}};
}

std::uint64_t sample_seed(std::uint64_t seed, const std::string& id, std::size_t sample) {
  const std::string hash = content_hash(fmt::format("{}/{}/{}", seed, sample, id));
  return std::stoull(hash.substr(0, 16), nullptr, 16);
}

/// Continuations of a prompt, cut where their tokens part from the prompt's.
Result<std::size_t> most_likely(LogitsSource& source, const Tokenizer& tokenizer,
                                const Benchmark& benchmark, const Work& work) {
  std::size_t shared = work.asked.tokens.size();
  std::vector<std::vector<Token>> whole;
  for (const std::string& choice : benchmark.choices(work.item)) {
    auto tokens = tokenizer.encode(work.asked.text + choice);
    if (!tokens) return fail(tokens.error());
    const auto parted = std::ranges::mismatch(*tokens, work.asked.tokens).in1 - tokens->begin();
    shared = std::min({shared, static_cast<std::size_t>(parted), tokens->size() - 1});
    whole.push_back(std::move(*tokens));
  }
  for (auto& tokens : whole)
    tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(shared));
  const auto scores =
      mean_log_likelihoods(source, std::span(work.asked.tokens).first(shared), whole);
  if (!scores) return fail(scores.error());
  return static_cast<std::size_t>(std::ranges::max_element(*scores) - scores->begin());
}

/// Answers all work, appending a line as each sample ends.
Result<GenerationCounts> answer(Transformer& model, const Benchmark& benchmark,
                                std::span<const Work> work, Mode mode, std::size_t window,
                                const EvaluationOptions& options, ResultsWriter& writer,
                                ResultsFile& results, std::size_t before) {
  const auto source = make_logits_source(model, window);
  Result<void> written;
  std::size_t done = before;
  const std::size_t total = before + work.size();
  const auto keep = [&](ResultsJson line) {
    written = writer.append(line);
    results.lines.push_back(std::move(line));
    ++done;
    return written.has_value() && (!options.progress || options.progress(done, total));
  };
  const auto stopped = [&]() -> tl::unexpected<Error> {
    if (!written) return fail(written.error());
    return fail(ErrorCode::kInvalidArgument, "interrupted");
  };
  std::vector<GenerationRequest> requests;
  std::vector<std::size_t> request_work;
  GenerationCounts counts;
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < work.size(); ++i) {
    const Work& w = work[i];
    if (w.asked.room == 0) {
      ResultsJson line = line_of(benchmark, w);
      line["output"] = "";
      line["finish"] = "too_long";
      if (!keep(std::move(line))) return stopped();
    } else if (mode == Mode::kLoglik) {
      const auto choice = most_likely(*source, model.tokenizer(), benchmark, w);
      if (!choice) return fail(choice.error(), "item " + benchmark.id(w.item));
      ResultsJson line = line_of(benchmark, w);
      line["output"] = benchmark.choices(w.item)[*choice];
      line["choice"] = *choice;
      counts.prompt_tokens += w.asked.tokens.size();
      if (!keep(std::move(line))) return stopped();
    } else {
      requests.push_back({w.asked.tokens, w.asked.room,
                          sample_seed(options.seed, benchmark.id(w.item), w.sample)});
      request_work.push_back(i);
    }
  }
  if (mode == Mode::kLoglik) {
    counts.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return counts;
  }
  GenerationOptions generation{options.sampler, benchmark.stops(mode), options.batch,
                               options.share_prefixes};
  auto generated = generate(*source, model.tokenizer(), requests, generation,
                            [&](std::size_t i, Generated result) {
                              ResultsJson line = line_of(benchmark, work[request_work[i]]);
                              line["output"] = std::move(result.text);
                              line["finish"] = name(result.finish);
                              line["tokens"] = result.tokens;
                              line["seconds"] = result.seconds;
                              return keep(std::move(line));
                            });
  if (!written) return fail(written.error());
  return generated;
}

}  // namespace

Result<ModelIdentity> identify(const fs::path& model) {
  auto hash = file_hash(model);
  if (!hash) return fail(hash.error());
  return ModelIdentity{model.filename().string(), std::move(*hash)};
}

Result<bool> is_evaluated(const ModelIdentity& identity, int context_length,
                          const EvaluationOptions& options, const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return false;
  const auto plan = Plan::make(identity, context_length, options);
  if (!plan) return fail(plan.error());
  const auto results = read_results(path);
  if (!results) return fail(results.error());
  if (auto same = check_same_results(path, results->header, plan->header); !same)
    return fail(same.error());
  return results->complete() && plan->missing(*results, options).empty();
}

Result<Evaluation> evaluate(Transformer& model, const ModelIdentity& identity,
                            const EvaluationOptions& options, const fs::path& path) {
  const auto plan = Plan::make(identity, model.config().context_length, options);
  if (!plan) return fail(plan.error());
  const Benchmark& items = *plan->benchmark;
  const Mode mode = plan->mode;
  ResultsFile results;
  auto writer = ResultsWriter::open(path, plan->header, results);
  if (!writer) return fail(writer.error());
  const auto missing = plan->missing(results, options);
  if (results.complete() && missing.empty()) return read_back(results, items, options.task, mode);
  const auto asker = Asker::create(items, model.tokenizer(), plan->window, mode, options);
  if (!asker) return fail(asker.error());
  std::vector<Work> work;
  for (const auto& [item, sample] : missing) {
    auto asked = asker->ask(item);
    if (!asked) return fail(asked.error(), "item " + items.id(item));
    work.push_back({item, sample, std::move(*asked)});
  }
  auto counts = answer(model, items, work, mode, plan->window, options, *writer, results,
                       results.lines.size());
  if (!counts) return fail(counts.error());

  auto out = conclude(results, items, options.task, mode, options.score);
  if (!out) return fail(out.error());
  out->counts = *counts;
  results.header["complete"] = true;
  if (!work.empty())
    results.header["runs"].push_back({{"seconds", counts->seconds},
                                      {"prompt_tokens", counts->prompt_tokens},
                                      {"shared_tokens", counts->shared_tokens},
                                      {"generated_tokens", counts->generated_tokens}});
  if (auto written = write_results(path, results); !written) return fail(written.error());
  return out;
}

Result<Evaluation> score_results(const fs::path& path, const fs::path& data,
                                 const ScoreOptions& options, const fs::path& verdicts) {
  auto results = read_results(path);
  if (!results) return fail(results.error());
  const ResultsJson& header = results->header;
  const auto task = find_task(header.value("task", ""));
  if (!task) return fail(task.error(), path.string());
  const auto mode = find_mode(header.value("mode", ""));
  if (!mode) return fail(mode.error(), path.string());
  const ResultsJson described = header.value("data", ResultsJson::object());
  const fs::path file = data.empty() ? fs::path(described.value("file", "")) : data;
  const auto hash = file_hash(file);
  if (!hash) return fail(hash.error());
  if (*hash != described.value("hash", ""))
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: the results are of other data than {}", path.string(), file.string()));
  const auto benchmark = Benchmark::load(*task, file);
  if (!benchmark) return fail(benchmark.error());
  std::vector<ScoredItem> items;
  auto out = conclude(*results, **benchmark, *task, *mode, options, &items);
  if (!out) return fail(out.error(), path.string());
  if (!verdicts.empty())
    if (auto written = write_verdicts(verdicts, items, *task); !written)
      return fail(written.error());
  return out;
}

}  // namespace kquant
