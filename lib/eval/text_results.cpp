#include "kquant/eval/text_results.hpp"

#include <fmt/format.h>

#include "eval/results.hpp"
#include "eval/text_measures.hpp"
#include "eval/whole_file.hpp"
#include "eval/window_scores.hpp"
#include "kquant/eval/content_hash.hpp"

namespace kquant {
namespace {

namespace fs = std::filesystem;

ResultsJson line_of(std::size_t window, const WindowScores& w, bool divergence) {
  ResultsJson line = {{"window", window}, {"seconds", w.seconds}};
  const auto column = [&](const char* name, auto field) {
    ResultsJson& values = line[name] = ResultsJson::array();
    for (const Comparison& score : w.scores) values.push_back(score.*field);
  };
  column("nll", &Comparison::nll);
  if (!divergence) return line;
  column("reference_nll", &Comparison::reference_nll);
  column("kl", &Comparison::kl);
  column("same_top", &Comparison::same_top);
  return line;
}

/// What the lines of an unfinished file hold.
Result<WindowScores> known_windows(const ResultsFile& results, const fs::path& path,
                                   const TextEvaluationOptions& options) {
  const std::size_t scored = scored_in_window(options.context);
  const bool divergence = options.reference.has_value();
  WindowScores known;
  for (std::size_t i = 0; i < results.lines.size(); ++i) try {
      const ResultsJson& line = results.lines[i];
      const auto nll = line.at("nll").get<std::vector<double>>();
      if (line.at("window") != i || nll.size() != scored) throw std::out_of_range("window");
      std::vector<Comparison> scores(nll.size());
      for (std::size_t t = 0; t < nll.size(); ++t) {
        scores[t].nll = nll[t];
        if (!divergence) continue;
        scores[t].reference_nll = line.at("reference_nll").at(t).get<double>();
        scores[t].kl = line.at("kl").at(t).get<double>();
        scores[t].same_top = line.at("same_top").at(t).get<bool>();
      }
      known.seconds += line.at("seconds").get<double>();
      known.scores.insert(known.scores.end(), scores.begin(), scores.end());
    } catch (const std::exception&) {
      return fail(ErrorCode::kBadFile, fmt::format("{}: line {}: expected the scores of window {}",
                                                   path.string(), i + 2, i));
    }
  return known;
}

ResultsJson header_of(const ModelIdentity& identity, const TextEvaluationOptions& options,
                      const std::string& text) {
  std::error_code error;
  ResultsJson header = {
      {"kquant_results", 1},
      {"task", options.reference ? "divergence" : "perplexity"},
      {"model", json_of(identity)},
      {"data",
       {{"file", fs::absolute(options.text, error).string()}, {"hash", content_hash(text)}}},
      {"settings", {{"context", options.context}, {"chunks", options.chunks}}}};
  if (options.reference) header["reference"] = json_of(*options.reference);
  return header;
}

}  // namespace

Result<bool> is_evaluated(const ModelIdentity& identity, const TextEvaluationOptions& options,
                          const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return false;
  const auto text = read_whole(options.text);
  if (!text) return fail(text.error());
  const auto found = read_results(path);
  if (!found) return fail(found.error());
  if (auto same = check_same_results(path, found->header, header_of(identity, options, *text));
      !same)
    return fail(same.error());
  return found->complete();
}

Result<PerplexityResult> evaluate_text(Transformer& model, const ModelIdentity& identity,
                                       Transformer* reference, const TextEvaluationOptions& options,
                                       const fs::path& path) {
  const auto text = read_whole(options.text);
  if (!text) return fail(text.error());
  ResultsFile results;
  auto writer = ResultsWriter::open(path, header_of(identity, options, *text), results);
  if (!writer) return fail(writer.error());
  if (results.complete() && results.lines.size() == 1) {
    auto measures = measures_of(results.lines[0]);
    if (!measures) return fail(measures.error(), path.string());
    return measures;
  }
  auto known = known_windows(results, path, options);
  if (!known) return fail(known.error());
  PerplexityOptions measured;
  measured.context = options.context;
  measured.chunks = options.chunks;
  measured.progress = options.progress;
  std::size_t window = results.lines.size();
  const auto result = go_on_with_perplexity(
      model, *text, measured, reference, std::move(*known), [&](const WindowScores& scores) {
        return writer->append(line_of(window++, scores, options.reference.has_value()));
      });
  if (!result) return fail(result.error());
  results.header["complete"] = true;
  results.lines = {json_object(*result)};
  if (auto written = write_results(path, results); !written) return fail(written.error());
  return *result;
}

}  // namespace kquant
