#pragma once
// What a level costs: bytes, bits a weight, speed; a file of results like any other.

#include <filesystem>

#include "kquant/base/error.hpp"
#include "kquant/eval/evaluation.hpp"
#include "kquant/model/transformer.hpp"

namespace kquant {

struct ModelFacts {
  std::uint64_t bytes = 0;
  double bits_per_weight = 0;
  double decode_tokens_per_second = 0;   ///< one sequence, the median of three runs of 64 tokens
  double prefill_tokens_per_second = 0;  ///< of 256 tokens at once, the median of three
};

/// Measures unless `results` has it. Errors: kInvalidArgument (of another model).
Result<ModelFacts> measure_model(Transformer& model, const ModelIdentity& identity,
                                 const std::filesystem::path& results);
/// Whether `results` has it. Errors: as measure_model().
Result<bool> is_measured(const ModelIdentity& identity, const std::filesystem::path& results);
Result<ModelFacts> read_facts(const std::filesystem::path& results);

}  // namespace kquant
