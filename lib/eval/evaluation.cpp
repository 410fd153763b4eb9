#include "kquant/eval/evaluation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>
#include <unordered_map>

#include "eval/results.hpp"
#include "kquant/eval/content_hash.hpp"
#include "kquant/model/chat.hpp"

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

/// A prompt that fits, and how long its answer may become.
struct Asked {
  std::string text;
  std::vector<Token> tokens;
  std::size_t room = 0;  ///< 0: the prompt is too long
  int shots = 0;
};

/// Turns items into prompts of one model.
class Asker {
 public:
  static Result<Asker> create(const Benchmark& benchmark, const Tokenizer& tokenizer,
                              std::size_t window, Mode mode, const EvaluationOptions& options) {
    Asker asker(benchmark, tokenizer, window, mode, options);
    if (!options.chat) return asker;
    auto family = find_chat_template(tokenizer.chat_template());
    if (!family) return fail(family.error());
    for (const std::string_view token : special_tokens(*family))
      if (!tokenizer.find(token))
        return fail(ErrorCode::kUnsupported,
                    fmt::format("the model's chat template is {}, but its vocabulary has no token "
                                "'{}': use a plain prompt",
                                name(*family), token));
    asker.family_ = *family;
    return asker;
  }

  /// With as many examples as leave room for the answer.
  Result<Asked> ask(std::size_t item) const {
    for (int shots = benchmark_->shots(item, mode_);; --shots) {
      Asked asked{benchmark_->prompt(item, mode_, shots), {}, 0, shots};
      if (family_) {
        std::vector<ChatMessage> messages;
        if (!benchmark_->system().empty())
          messages.push_back({ChatRole::kSystem, std::string(benchmark_->system())});
        messages.push_back({ChatRole::kUser, asked.text});
        auto text = format_chat(*family_, messages);
        if (!text) return fail(text.error());
        asked.text = std::move(*text);
      }
      auto tokens = tokenizer_->encode(asked.text,
                                       {.add_special = true, .parse_special = family_.has_value()});
      if (!tokens) return fail(tokens.error());
      asked.tokens = std::move(*tokens);
      const std::size_t n = asked.tokens.size();
      if (n > 0 && n + reserve_ <= window_) {
        asked.room = room_after(n);
        return asked;
      }
      if (shots > 0) continue;
      asked.room = n > 0 && n < window_ ? room_after(n) : 0;
      return asked;
    }
  }

 private:
  Asker(const Benchmark& benchmark, const Tokenizer& tokenizer, std::size_t window, Mode mode,
        const EvaluationOptions& options)
      : benchmark_(&benchmark), tokenizer_(&tokenizer), mode_(mode), window_(window) {
    const auto usual = static_cast<std::size_t>(benchmark.max_tokens(mode));
    if (benchmark.limit_includes_prompt()) window_ = std::min(window_, usual);
    max_tokens_ = options.max_tokens > 0 ? options.max_tokens : usual;
    reserve_ = mode == Mode::kLoglik ? 1 : std::min(max_tokens_, window_ / 2);
  }
  std::size_t room_after(std::size_t prompt) const {
    return std::min(max_tokens_, window_ - prompt);
  }

  const Benchmark* benchmark_;
  const Tokenizer* tokenizer_;
  Mode mode_;
  std::size_t window_, max_tokens_ = 0, reserve_ = 0;
  std::optional<ChatTemplate> family_;
};

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
                        {"model", {{"file", model.name}, {"hash", model.hash}}}};
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

/// The samples that are still to be asked, and how.
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

Result<Evaluation> evaluate(Transformer& model, const ModelIdentity& identity,
                            const EvaluationOptions& options, const fs::path& path) {
  const auto benchmark = Benchmark::load(options.task, options.data, options.shots);
  if (!benchmark) return fail(benchmark.error());
  const Benchmark& items = **benchmark;
  const Mode mode = options.mode.value_or(items.modes().front());
  if (std::ranges::find(items.modes(), mode) == items.modes().end())
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("the task {} has no mode {}", name(options.task), name(mode)));
  if (options.shard.count == 0 || options.shard.index >= options.shard.count)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("shard {} of {}: expected an index below the count",
                            options.shard.index, options.shard.count));
  if (options.samples == 0 || (options.samples > 1 && !(options.sampler.temperature > 0)))
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} samples of each item at temperature {}: several need a temperature "
                            "over 0",
                            options.samples, options.sampler.temperature));
  const std::size_t window =
      options.context > 0
          ? options.context
          : std::min(kUsualWindow, static_cast<std::size_t>(model.config().context_length));
  const auto asker = Asker::create(items, model.tokenizer(), window, mode, options);
  if (!asker) return fail(asker.error());
  const auto header = header_of(identity, options, mode, window);
  if (!header) return fail(header.error());

  ResultsFile results;
  auto writer = ResultsWriter::open(path, *header, results);
  if (!writer) return fail(writer.error());
  std::unordered_map<std::string, bool> answered;
  for (const ResultsJson& line : results.lines) answered[key_of(line)] = true;
  std::vector<Work> work;
  std::size_t number = 0;
  for (const std::size_t item : draw(items.size(), options.limit, options.seed))
    for (std::size_t sample = 0; sample < options.samples; ++sample) {
      if (number++ % options.shard.count != options.shard.index) continue;
      if (answered.contains(key_of(items.id(item), sample))) continue;
      auto asked = asker->ask(item);
      if (!asked) return fail(asked.error(), "item " + items.id(item));
      work.push_back({item, sample, std::move(*asked)});
    }
  if (results.complete() && work.empty()) return read_back(results, items, options.task, mode);
  auto counts =
      answer(model, items, work, mode, window, options, *writer, results, results.lines.size());
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
