#include "eval/text_measures.hpp"

#include <string>

#include "kquant/eval/text_results.hpp"

namespace kquant {
namespace {

/// Calls visit(name, field) for all of a result's own fields; the one list for both directions.
template <class R, class Visit>
void visit_result(R& r, Visit&& visit) {
  visit("chunks", r.chunks);
  visit("scored_tokens", r.scored_tokens);
  visit("perplexity", r.perplexity);
  visit("perplexity_error", r.perplexity_error);
  visit("nll", r.nll);
  visit("seconds", r.seconds);
  visit("tokens_per_second", r.tokens_per_second);
}

template <class D, class Visit>
void visit_divergence(D& d, Visit&& visit) {
  visit("reference_perplexity", d.reference_perplexity);
  visit("kl", d.kl);
  visit("kl_median", d.kl_median);
  visit("kl_p90", d.kl_p90);
  visit("kl_p95", d.kl_p95);
  visit("kl_p99", d.kl_p99);
  visit("kl_p999", d.kl_p999);
  visit("kl_max", d.kl_max);
  visit("same_top", d.same_top);
  visit("rms_probability", d.rms_probability);
  visit("log_perplexity_ratio", d.log_ratio);
}

struct Write {
  ResultsJson& out;
  template <class T>
  void operator()(const char* name, const T& value) const {
    out[name] = value;
  }
  void operator()(const char* name, const Estimate& value) const {
    out[name] = {{"mean", value.mean}, {"error", value.error}};
  }
};

struct Read {
  const ResultsJson& in;
  template <class T>
  void operator()(const char* name, T& value) const {
    in.at(name).get_to(value);
  }
  void operator()(const char* name, Estimate& value) const {
    in.at(name).at("mean").get_to(value.mean);
    in.at(name).at("error").get_to(value.error);
  }
};

}  // namespace

ResultsJson json_object(const PerplexityResult& result) {
  ResultsJson out;
  visit_result(result, Write{out});
  if (result.divergence) visit_divergence(*result.divergence, Write{out["divergence"]});
  return out;
}

Result<PerplexityResult> measures_of(const ResultsJson& object) try {
  PerplexityResult result;
  visit_result(result, Read{object});
  if (object.contains("divergence"))
    visit_divergence(result.divergence.emplace(), Read{object["divergence"]});
  return result;
} catch (const ResultsJson::exception& e) {
  return fail(ErrorCode::kBadFile, std::string("no measures of a text: ") + e.what());
}

std::string json_of(const PerplexityResult& result) {
  return json_object(result).dump();
}

}  // namespace kquant
