// What is copied through File, Metadata and Writer comes out byte for byte as it went in.

#include <catch2/catch.hpp>

#include "gguf/sample.hpp"
#include "shared_data.hpp"

namespace kquant::gguf {
namespace {

void require_copied_exactly(const std::filesystem::path& path) {
  INFO(path.string());
  const test::TempDir folder;
  const auto file = File::open(path);
  INFO((file ? "" : file.error().message));
  REQUIRE(file);
  test::copy_file(*file, folder / "copy.gguf");
  CHECK(test::read_bytes(path) == test::read_bytes(folder / "copy.gguf"));
}

}  // namespace

TEST_CASE("vocabulary files of other writers are copied byte for byte") {
  for (const std::string name : {"deepseek-coder", "gpt-2", "llama-spm", "phi-3"})
    if (const auto path = test::shared_path("data/tokenizers/ggml-vocab-" + name + ".gguf"))
      require_copied_exactly(*path);
}

TEST_CASE("a file with every value type, tensor type and number of dimensions is copied") {
  const test::TempDir folder;
  test::write_sample(folder / "sample.gguf");
  require_copied_exactly(folder / "sample.gguf");
}

TEST_CASE("another alignment is copied") {
  const std::uint32_t alignment = GENERATE(8u, 64u, 65536u);
  const test::TempDir folder;
  Metadata metadata;
  metadata.set_u32("general.alignment", alignment);
  test::write_sample(folder / "sample.gguf", metadata);
  CHECK(File::open(folder / "sample.gguf")->alignment() == alignment);
  require_copied_exactly(folder / "sample.gguf");
}

TEST_CASE("a file without tensors and metadata is 24 bytes") {
  const test::TempDir folder;
  auto writer = Writer::create(folder / "empty.gguf", {}, {});
  REQUIRE(writer);
  REQUIRE(writer->finish());
  CHECK(std::filesystem::file_size(folder / "empty.gguf") == 24);
  require_copied_exactly(folder / "empty.gguf");
}

TEST_CASE("what was written is read") {
  const test::TempDir folder;
  test::write_sample(folder / "sample.gguf");
  const auto file = File::open(folder / "sample.gguf");
  REQUIRE(file);
  CHECK(file->version() == 3);
  CHECK(file->alignment() == 32);
  CHECK(file->total_bytes() == std::filesystem::file_size(folder / "sample.gguf"));
  CHECK(file->get_int("test.u32") == 4000000000);
  CHECK(file->get_int("test.u64") == std::int64_t{1} << 40);
  CHECK(file->get_int("test.i32") == -5);
  CHECK(file->get_float("test.f32") == 1.5);
  CHECK(file->get_bool("test.bool") == true);
  CHECK(file->get_string("test.string") == "text");
  CHECK(file->get_strings("test.strings") == std::vector<std::string_view>{"a", "", "ccc"});
  CHECK(file->get_ints("test.ints") == std::vector<std::int64_t>{1, -2, 3});
  CHECK(file->get_floats("test.floats") == std::vector<float>{0.5f, -0.25f});
  CHECK(file->get_floats("test.ints") == std::vector<float>{1, -2, 3});

  for (const TensorSpec& spec : test::sample_specs()) {
    INFO(spec.name);
    const Tensor* tensor = file->find_tensor(spec.name);
    REQUIRE(tensor != nullptr);
    CHECK(tensor->type == spec.type);
    CHECK(tensor->n_dims == spec.n_dims);
    CHECK(tensor->shape == spec.shape);
    const std::vector<std::byte> data = test::sample_data(spec);
    CHECK(std::equal(tensor->data.begin(), tensor->data.end(), data.begin(), data.end()));
  }
  CHECK(file->find_tensor("no such tensor") == nullptr);
}

TEST_CASE("a key is replaced in place, and erased") {
  Metadata metadata;
  metadata.set_u32("a", 1);
  metadata.set_u32("b", 2);
  metadata.set_string("a", "one");
  REQUIRE(metadata.size() == 2);
  CHECK(metadata.key(0) == "a");
  CHECK(metadata.find("a")->as_string() == "one");
  CHECK(metadata.erase("a"));
  CHECK_FALSE(metadata.erase("a"));
  REQUIRE(metadata.size() == 1);
  CHECK(metadata.key(0) == "b");
  CHECK_FALSE(metadata.find("a"));
}

}  // namespace kquant::gguf
