#include "kquant/eval/text_results.hpp"

#include <fmt/format.h>

#include <fstream>
#include <iterator>

#include "eval/results.hpp"
#include "kquant/eval/content_hash.hpp"

namespace kquant {
namespace {

ResultsJson line_of(const PerplexityResult& r) {
  ResultsJson line = {
      {"perplexity", r.perplexity}, {"perplexity_error", r.perplexity_error},  {"nll", r.nll.mean},
      {"nll_error", r.nll.error},   {"scored_tokens", r.scored_tokens},        {"chunks", r.chunks},
      {"seconds", r.seconds},       {"tokens_per_second", r.tokens_per_second}};
  if (const auto& d = r.divergence)
    line["divergence"] = {{"kl", d->kl.mean},
                          {"kl_error", d->kl.error},
                          {"kl_median", d->kl_median},
                          {"kl_p90", d->kl_p90},
                          {"kl_p95", d->kl_p95},
                          {"kl_p99", d->kl_p99},
                          {"kl_p999", d->kl_p999},
                          {"kl_max", d->kl_max},
                          {"same_top", d->same_top.mean},
                          {"same_top_error", d->same_top.error},
                          {"rms_probability", d->rms_probability.mean},
                          {"rms_probability_error", d->rms_probability.error},
                          {"log_ratio", d->log_ratio.mean},
                          {"log_ratio_error", d->log_ratio.error},
                          {"reference_perplexity", d->reference_perplexity}};
  return line;
}

PerplexityResult result_of(const ResultsJson& line) {
  PerplexityResult r;
  r.perplexity = line.value("perplexity", 0.0);
  r.perplexity_error = line.value("perplexity_error", 0.0);
  r.nll = {line.value("nll", 0.0), line.value("nll_error", 0.0)};
  r.scored_tokens = line.value("scored_tokens", std::size_t{0});
  r.chunks = line.value("chunks", 0);
  r.seconds = line.value("seconds", 0.0);
  r.tokens_per_second = line.value("tokens_per_second", 0.0);
  if (line.contains("divergence")) {
    const ResultsJson& from = line["divergence"];
    Divergence d;
    d.kl = {from.value("kl", 0.0), from.value("kl_error", 0.0)};
    d.kl_median = from.value("kl_median", 0.0);
    d.kl_p90 = from.value("kl_p90", 0.0);
    d.kl_p95 = from.value("kl_p95", 0.0);
    d.kl_p99 = from.value("kl_p99", 0.0);
    d.kl_p999 = from.value("kl_p999", 0.0);
    d.kl_max = from.value("kl_max", 0.0);
    d.same_top = {from.value("same_top", 0.0), from.value("same_top_error", 0.0)};
    d.rms_probability = {from.value("rms_probability", 0.0),
                         from.value("rms_probability_error", 0.0)};
    d.log_ratio = {from.value("log_ratio", 0.0), from.value("log_ratio_error", 0.0)};
    d.reference_perplexity = from.value("reference_perplexity", 0.0);
    r.divergence = d;
  }
  return r;
}

}  // namespace

Result<PerplexityResult> evaluate_text(Transformer& model, const ModelIdentity& identity,
                                       Transformer* reference, const TextEvaluationOptions& options,
                                       const std::filesystem::path& path) {
  std::ifstream in(options.text, std::ios::binary);
  if (!in) return fail(ErrorCode::kIo, options.text.string() + ": cannot read");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::error_code error;
  ResultsFile results;
  results.header = {{"kquant_results", 1},
                    {"task", reference ? "divergence" : "perplexity"},
                    {"model", {{"file", identity.name}, {"hash", identity.hash}}},
                    {"data",
                     {{"file", std::filesystem::absolute(options.text, error).string()},
                      {"hash", content_hash(text)}}},
                    {"settings", {{"context", options.context}, {"chunks", options.chunks}}}};
  if (reference)
    results.header["reference"] = {{"file", options.reference.name},
                                   {"hash", options.reference.hash}};
  if (std::filesystem::exists(path, error)) {
    const auto found = read_results(path);
    if (!found) return fail(found.error());
    if (auto same = check_same_results(path, found->header, results.header); !same)
      return fail(same.error());
    if (found->complete() && found->lines.size() == 1) return result_of(found->lines[0]);
  }
  PerplexityOptions measured;
  measured.context = options.context;
  measured.chunks = options.chunks;
  measured.progress = options.progress;
  const auto result = perplexity(model, text, measured, reference);
  if (!result) return fail(result.error());
  results.header["complete"] = true;
  results.lines.push_back(line_of(*result));
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (auto written = write_results(path, results); !written) return fail(written.error());
  return *result;
}

}  // namespace kquant
