#include "gguf/sample.hpp"

#include <catch2/catch.hpp>
#include <string>

#include "kquant/format/info.hpp"

namespace kquant::test {

std::vector<gguf::TensorSpec> sample_specs() {
  std::vector<gguf::TensorSpec> specs;
  for (const TypeInfo& type : detail::kTypes)
    specs.push_back(
        {"blk.0." + std::string(type.name) + ".weight", type.type, 2, {type.block_size, 3, 1, 1}});
  for (std::uint64_t n = 1; n <= 4; ++n) {
    gguf::TensorSpec spec{"dims" + std::to_string(n), TensorType::F16, static_cast<int>(n)};
    for (std::uint64_t d = 0; d < n; ++d) spec.shape[d] = d + 3;
    specs.push_back(spec);
  }
  return specs;
}

std::vector<std::byte> sample_data(const gguf::TensorSpec& spec) {
  const std::uint64_t rows = spec.shape[1] * spec.shape[2] * spec.shape[3];
  std::vector<std::byte> bytes(rows * row_bytes(spec.type, spec.shape[0]));
  std::size_t state = std::hash<std::string>{}(spec.name);
  for (std::byte& b : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    b = static_cast<std::byte>(state >> 56);
  }
  return bytes;
}

gguf::Metadata sample_metadata(gguf::Metadata metadata) {
  metadata.set_string("general.architecture", "test");
  metadata.set_u32("test.u32", 4000000000u);
  metadata.set_u64("test.u64", std::uint64_t{1} << 40);
  metadata.set_i32("test.i32", -5);
  metadata.set_f32("test.f32", 1.5f);
  metadata.set_bool("test.bool", true);
  metadata.set_string("test.string", "text");
  metadata.set_strings("test.strings", std::vector<std::string>{"a", "", "ccc"});
  metadata.set_ints("test.ints", std::vector<std::int32_t>{1, -2, 3});
  metadata.set_floats("test.floats", std::vector<float>{0.5f, -0.25f});
  metadata.set_ints("test.nothing", {});
  return metadata;
}

void write_sample(const std::filesystem::path& path, const gguf::Metadata& metadata) {
  auto writer = gguf::Writer::create(path, sample_metadata(metadata), sample_specs());
  INFO((writer ? "" : writer.error().message));
  REQUIRE(writer);
  for (const gguf::TensorSpec& spec : sample_specs()) REQUIRE(writer->append(sample_data(spec)));
  REQUIRE(writer->finish());
}

void copy_file(const gguf::File& file, const std::filesystem::path& path) {
  std::vector<gguf::TensorSpec> specs;
  for (const gguf::Tensor& tensor : file.tensors()) specs.push_back(gguf::spec_of(tensor));
  auto writer = gguf::Writer::create(path, gguf::Metadata::copy_of(file), specs);
  INFO((writer ? "" : writer.error().message));
  REQUIRE(writer);
  for (const gguf::Tensor& tensor : file.tensors()) REQUIRE(writer->append(tensor.data));
  REQUIRE(writer->finish());
}

}  // namespace kquant::test
