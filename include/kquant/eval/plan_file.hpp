#pragma once
// A plan of tensor types as a JSON file, to be read, changed and used again:
//
//     {"bits_per_weight": 4.41, "tensors": {"blk.0.attn_k.weight": "Q5_K", …}}

#include <filesystem>

#include "kquant/allocation.hpp"
#include "kquant/base/error.hpp"

namespace kquant {

/// Written atomically, tensors in the order of their names. Errors: kIo.
Result<void> write_plan(const std::filesystem::path& path, const TypePlan& plan,
                        double bits_per_weight);

/// Errors: kNotFound, kIo, kBadFile (no JSON, no "tensors", a type that is none: names it).
Result<TypePlan> read_plan(const std::filesystem::path& path);

}  // namespace kquant
