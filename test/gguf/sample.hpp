#pragma once
// A small model file that has some of everything.

#include <filesystem>
#include <vector>

#include "kquant/gguf.hpp"

namespace kquant::test {

/// Of every tensor type and every number of dimensions.
std::vector<gguf::TensorSpec> sample_specs();

/// Bytes that depend on the tensor's name; as many as the tensor has.
std::vector<std::byte> sample_data(const gguf::TensorSpec& spec);

/// A value of every type that Metadata can set, after `metadata`.
gguf::Metadata sample_metadata(gguf::Metadata metadata = {});

/// Writes the sample; fails the running test where that is impossible.
void write_sample(const std::filesystem::path& path, const gguf::Metadata& metadata = {});

/// All metadata and tensors of `file`, written anew.
void copy_file(const gguf::File& file, const std::filesystem::path& path);

}  // namespace kquant::test
