// Models split over several files.

#include <catch2/catch.hpp>

#include "gguf/sample.hpp"
#include "shared_data.hpp"

namespace kquant::gguf {
namespace {

// What one file of a split says and holds.
struct Part {
  int number, count;
  std::vector<std::string> tensors;
  int tensor_count;
};

void write_part(const std::filesystem::path& path, const Part& part) {
  Metadata metadata;
  if (part.number == 0) metadata.set_string("general.name", "split model");
  const std::int32_t count = part.tensor_count;
  metadata.set_u32("split.no", static_cast<std::uint32_t>(part.number));
  metadata.set_u32("split.count", static_cast<std::uint32_t>(part.count));
  metadata.set_i32("split.tensors.count", count);
  std::vector<TensorSpec> specs;
  for (const std::string& name : part.tensors)
    specs.push_back({name, TensorType::F32, 2, {5, 2, 1, 1}});
  auto writer = Writer::create(path, metadata, specs);
  REQUIRE(writer);
  for (const TensorSpec& spec : specs) REQUIRE(writer->append(test::sample_data(spec)));
  REQUIRE(writer->finish());
}

class SplitModel {
 public:
  SplitModel() {
    write(1, {0, 3, {"a", "b"}, 4});
    write(2, {1, 3, {"c"}, 4});
    write(3, {2, 3, {"d"}, 4});
  }
  std::filesystem::path path(int file) const {
    return folder_ / ("model-0000" + std::to_string(file) + "-of-00003.gguf");
  }
  void write(int file, const Part& part) { write_part(path(file), part); }
  void rejected_with(const std::string& message) const {
    const auto opened = File::open(path(1));
    REQUIRE_FALSE(opened);
    CHECK_THAT(opened.error().message, Catch::Contains(message));
  }

 private:
  test::TempDir folder_;
};

}  // namespace

TEST_CASE("all files of a split are opened as one model") {
  const SplitModel model;
  const auto file = File::open(model.path(1));
  INFO((file ? "" : file.error().message));
  REQUIRE(file);
  CHECK(file->get_string("general.name") == "split model");
  REQUIRE(file->tensors().size() == 4);
  const std::vector<std::pair<std::string, int>> expected = {
      {"a", 0}, {"b", 0}, {"c", 1}, {"d", 2}};
  std::uint64_t total = 0;
  for (int i = 1; i <= 3; ++i) total += std::filesystem::file_size(model.path(i));
  CHECK(file->total_bytes() == total);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const Tensor& tensor = file->tensors()[i];
    CHECK(tensor.name == expected[i].first);
    CHECK(tensor.shard == expected[i].second);
    CHECK(file->find_tensor(tensor.name) == &tensor);
    const auto data = test::sample_data(spec_of(tensor));
    CHECK(std::equal(tensor.data.begin(), tensor.data.end(), data.begin(), data.end()));
  }
}

TEST_CASE("a split model is copied into one file without its split keys") {
  const SplitModel model;
  const test::TempDir folder;
  test::copy_file(*File::open(model.path(1)), folder / "whole.gguf");
  const auto whole = File::open(folder / "whole.gguf");
  REQUIRE(whole);
  CHECK(whole->tensors().size() == 4);
  CHECK(whole->metadata_count() == 1);
}

TEST_CASE("a later file of a split says which one to open") {
  const SplitModel model;
  const auto opened = File::open(model.path(3));
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == ErrorCode::kInvalidArgument);
  CHECK_THAT(opened.error().message,
             Catch::Contains("model-00003-of-00003.gguf: file 3 of 3 of a split model; open the "
                             "first one, ") &&
                 Catch::EndsWith("model-00001-of-00003.gguf"));
  const auto alone = File::open(model.path(3), {.strict = true, .follow_splits = false});
  REQUIRE(alone);
  CHECK(alone->tensors().size() == 1);
}

TEST_CASE("must reject: splits with missing or inconsistent files") {
  SplitModel model;
  SECTION("missing") {
    std::filesystem::remove(model.path(2));
    model.rejected_with("file 2 of 3 of the split model: ");
    model.rejected_with("model-00002-of-00003.gguf: cannot open: No such file");
  }
  SECTION("another number") {
    std::filesystem::copy_file(model.path(3), model.path(2),
                               std::filesystem::copy_options::overwrite_existing);
    model.rejected_with("expected a name that ends in '-00003-of-00003.gguf'");
  }
  SECTION("another count") {
    model.write(2, {1, 4, {"c"}, 4});
    model.rejected_with("expected a name that ends in '-00002-of-00004.gguf'");
  }
  SECTION("not a split file") {
    test::write_sample(model.path(2));
    model.rejected_with("key 'split.count': expected 3");
  }
  SECTION("another total") {
    model.write(2, {1, 3, {"c"}, 5});
    model.rejected_with("key 'split.tensors.count': differs from the first file's");
  }
  SECTION("a wrong total") {
    for (int i = 0; i < 3; ++i) model.write(i + 1, {i, 3, {"t" + std::to_string(i)}, 4});
    model.rejected_with("key 'split.tensors.count' says 4 tensors, the 3 files have 3");
  }
  SECTION("a name in two files") {
    model.write(3, {2, 3, {"a"}, 4});
    model.rejected_with("tensor 'a': the name appears in more than one file");
  }
  SECTION("a number beyond the count") {
    model.write(1, {3, 3, {"a", "b"}, 4});
    model.rejected_with("key 'split.no': expected an integer from 0 to 2, found 3");
  }
  SECTION("a negative total") {
    model.write(1, {0, 3, {"a", "b"}, -4});
    model.rejected_with("key 'split.tensors.count': expected an integer from 0 to");
  }
  SECTION("a damaged file") {
    std::filesystem::resize_file(model.path(3), 100);
    model.rejected_with("model-00003-of-00003.gguf: ");
  }
}

TEST_CASE("must reject: a split file under another name") {
  const test::TempDir folder;
  write_part(folder / "model.gguf", {0, 2, {"a"}, 2});
  const auto opened = File::open(folder / "model.gguf");
  REQUIRE_FALSE(opened);
  CHECK_THAT(opened.error().message,
             Catch::Contains("expected a name that ends in '-00001-of-00002.gguf'"));
}

TEST_CASE("a split of one file is a file") {
  const test::TempDir folder;
  write_part(folder / "model.gguf", {0, 1, {"a"}, 1});
  CHECK(File::open(folder / "model.gguf"));
}

}  // namespace kquant::gguf
