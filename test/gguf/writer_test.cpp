// The file appears complete or not at all, and nothing malformed is written. What AtomicFile does
// by itself (permissions, a missing folder) is tested with it.

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <fstream>

#include "gguf/sample.hpp"
#include "shared_data.hpp"

namespace kquant::gguf {
namespace {

constexpr std::size_t kTensorBytes = 2000000;  // more than is gathered before a write

std::vector<TensorSpec> two_tensors() {
  return {{"a", TensorType::F32, 1, {kTensorBytes / 4, 1, 1, 1}},
          {"b", TensorType::F32, 1, {kTensorBytes / 4, 1, 1, 1}}};
}

// A folder with an old file out.gguf in it.
class OldFile {
 public:
  OldFile() { std::ofstream(path()) << "old contents"; }
  std::filesystem::path path() const { return folder_ / "out.gguf"; }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(folder_.path()), {}));
  }
  bool intact() const { return test::read_text(path()) == "old contents"; }

 private:
  test::TempDir folder_;
};

// What `work` returned in a process of its own, or minus the signal that ended it.
template <class Work>
int in_child(const Work& work) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(work());
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

void refuses(const Metadata& metadata, const std::vector<TensorSpec>& specs,
             const std::string& message) {
  const OldFile old;
  const auto writer = Writer::create(old.path(), metadata, specs);
  REQUIRE_FALSE(writer);
  CHECK(writer.error().code == ErrorCode::kInvalidArgument);
  CHECK_THAT(writer.error().message, Catch::Contains("out.gguf: ") && Catch::Contains(message));
  CHECK(old.intact());
  CHECK(old.files() == 1);
}

}  // namespace

TEST_CASE("a writer destroyed before finish leaves the old file and nothing else") {
  const OldFile old;
  const std::size_t appended = GENERATE(0u, 1u, 2u);
  {
    auto writer = Writer::create(old.path(), {}, two_tensors());
    REQUIRE(writer);
    for (std::size_t i = 0; i < appended; ++i)
      REQUIRE(writer->append(test::sample_data(two_tensors()[i])));
    CHECK(old.files() == 2);
  }
  CHECK(old.intact());
  CHECK(old.files() == 1);
}

TEST_CASE("a process killed while writing leaves the old file") {
  const OldFile old;
  const int status = in_child([&] {
    auto writer = Writer::create(old.path(), {}, two_tensors());
    if (!writer || !writer->append(test::sample_data(two_tensors()[0]))) return 1;
    ::raise(SIGKILL);
    return 2;
  });
  CHECK(status == -SIGKILL);
  CHECK(old.intact());
}

TEST_CASE("a disk that fills up is an error with the path, and leaves the old file") {
  const OldFile old;
  const bool full_before = GENERATE(true, false);
  INFO("full before the file is created: " << full_before);
  const int status = in_child([&] {
    const auto fill_disk = [] {
      ::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{kTensorBytes, kTensorBytes};
      return ::setrlimit(RLIMIT_FSIZE, &limit) == 0;
    };
    if (full_before && !fill_disk()) return 1;
    // Full before: a file system that can reserve says so in create(), another one in append().
    auto writer = Writer::create(old.path(), {}, two_tensors());
    if (!full_before && (!writer || !fill_disk())) return 2;
    Result<void> done;
    if (!writer) done = fail(writer.error());
    for (std::size_t i = 0; i < 2 && done; ++i)
      done = writer->append(test::sample_data(two_tensors()[i]));
    if (done) return 3;
    if (done.error().code != ErrorCode::kIo) return 4;
    if (done.error().message.find("out.gguf: cannot ") == std::string::npos) return 5;
    // What was half written is never finished.
    if (writer && writer->finish()) return 6;
    return 0;
  });
  CHECK(status == 0);
  CHECK(old.intact());
  CHECK(old.files() == 1);
}

TEST_CASE("pieces of a tensor make the same file as all of it") {
  const test::TempDir folder;
  test::write_sample(folder / "whole.gguf");
  auto writer =
      Writer::create(folder / "pieces.gguf", test::sample_metadata(), test::sample_specs());
  REQUIRE(writer);
  for (const TensorSpec& spec : test::sample_specs()) {
    const std::vector<std::byte> data = test::sample_data(spec);
    for (std::size_t at = 0, n = 1; at < data.size();
         at += n, n = std::min(2 * n, data.size() - at))
      REQUIRE(writer->append(std::span(data).subspan(at, n)));
    REQUIRE(writer->append({}));
  }
  REQUIRE(writer->finish());
  CHECK(test::read_bytes(folder / "whole.gguf") == test::read_bytes(folder / "pieces.gguf"));
}

TEST_CASE("too many bytes, and too few, are errors that name the tensor") {
  const OldFile old;
  auto writer = Writer::create(old.path(), {}, two_tensors());
  REQUIRE(writer);
  const std::vector<std::byte> data(kTensorBytes + 1);
  const auto too_many = writer->append(data);
  REQUIRE_FALSE(too_many);
  CHECK(too_many.error().code == ErrorCode::kInvalidArgument);
  CHECK_THAT(too_many.error().message, Catch::Contains("tensor 'a'"));
  REQUIRE(writer->append(std::span(data).first(kTensorBytes)));
  REQUIRE(writer->append(std::span(data).first(100)));
  const auto too_few = writer->finish();
  REQUIRE_FALSE(too_few);
  CHECK_THAT(too_few.error().message,
             Catch::Contains("tensor 'b': 100 of its 2000000 bytes were written"));
  CHECK(old.intact());
  REQUIRE(writer->append(std::span(data).first(kTensorBytes - 100)));
  CHECK_FALSE(writer->append(std::span(data).first(1)));
  REQUIRE(writer->finish());
  CHECK(File::open(old.path()));
  CHECK_FALSE(writer->finish());
}

TEST_CASE("what the reader would refuse is not written") {
  const auto tensor = [](std::string name, TensorType type, int n_dims,
                         std::array<std::uint64_t, 4> shape) {
    return std::vector<TensorSpec>{{std::move(name), type, n_dims, shape}};
  };
  const TensorType f32 = TensorType::F32;
  refuses({}, tensor(std::string(64, 'n'), f32, 1, {1, 1, 1, 1}), "name of 64 bytes");
  refuses({}, tensor("", f32, 1, {1, 1, 1, 1}), "the name is empty");
  refuses({}, tensor("t", f32, 0, {1, 1, 1, 1}), "tensor 't': 0 dimensions");
  refuses({}, tensor("t", f32, 5, {1, 1, 1, 1}), "tensor 't': 5 dimensions");
  refuses({}, tensor("t", f32, 1, {4, 2, 1, 1}), "beyond the number of dimensions");
  refuses({}, tensor("t", f32, 2, {4, 0, 1, 1}), "a dimension is 0");
  refuses({}, tensor("t", TensorType::Q4_K, 1, {128, 1, 1, 1}), "Q4_K's block of 256");
  refuses({}, tensor("t", TensorType{999}, 1, {1, 1, 1, 1}), "type 999 is not known");
  refuses({}, tensor("t", TensorType::I8, 1, {std::uint64_t{1} << 63, 1, 1, 1}), "2^63");
  auto two = two_tensors();
  two[1].name = two[0].name;
  refuses({}, two, "tensor 'a': the name appears twice");
  for (TensorSpec& spec : two) spec.shape[0] = std::uint64_t{1} << 60;
  two.push_back(two[0]);
  two.push_back(two[0]);
  refuses({}, two, "exceed 2^64 bytes");

  Metadata metadata;
  metadata.set_u32("", 1);
  refuses(metadata, {}, "the key is empty");
  for (const std::uint32_t alignment : {0u, 4u, 48u, 0x80000000u}) {
    metadata = {};
    metadata.set_u32("general.alignment", alignment);
    refuses(metadata, two_tensors(), "key 'general.alignment'");
  }
  metadata = {};
  metadata.set_u64("general.alignment", 64);
  refuses(metadata, two_tensors(), "expected a u32, found u64");
  const std::byte bytes[2] = {};
  metadata = {};
  metadata.set("k", Value(ValueType::Bool, ValueType::Bool, 1, std::span(bytes).first(0)));
  refuses(metadata, {}, "do not fit");
}

TEST_CASE("a link to a file stays a link; a device or folder is never replaced") {
  const OldFile old;
  const test::TempDir folder;
  std::filesystem::create_symlink(old.path(), folder / "link.gguf");
  test::write_sample(folder / "link.gguf");
  CHECK(std::filesystem::is_symlink(folder / "link.gguf"));
  CHECK(File::open(old.path()));

  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  for (const std::filesystem::path& path : {folder / "fifo", folder.path()}) {
    const auto writer = Writer::create(path, {}, {});
    REQUIRE_FALSE(writer);
    CHECK(writer.error().code == ErrorCode::kInvalidArgument);
    CHECK_THAT(writer.error().message, Catch::Contains("not a regular file"));
  }
  CHECK(std::filesystem::is_fifo(folder / "fifo"));
  const auto opened = File::open(folder / "fifo");
  REQUIRE_FALSE(opened);
  CHECK_THAT(opened.error().message, Catch::Contains("not a regular file"));
}

TEST_CASE("a model can be written over the file it is read from") {
  const test::TempDir folder;
  test::write_sample(folder / "model.gguf");
  const std::vector<std::byte> before = test::read_bytes(folder / "model.gguf");
  const auto file = File::open(folder / "model.gguf");
  REQUIRE(file);
  test::copy_file(*file, folder / "model.gguf");
  CHECK(test::read_bytes(folder / "model.gguf") == before);
  CHECK(file->find_tensor("dims1")->data.size() == 6);  // still mapped
}

}  // namespace kquant::gguf
