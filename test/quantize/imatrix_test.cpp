#include "kquant/imatrix.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "kquant/gguf.hpp"
#include "shared_data.hpp"

namespace kquant {
namespace {

using test::TempDir;

// The legacy file, byte by byte.
class LegacyFile {
 public:
  LegacyFile& i32(std::int32_t value) { return put(&value, sizeof value); }
  LegacyFile& f32(std::initializer_list<float> values) {
    return put(values.begin(), values.size() * sizeof(float));
  }
  LegacyFile& text(std::string_view text) {
    return i32(static_cast<std::int32_t>(text.size())).put(text.data(), text.size());
  }
  Result<Imatrix> parse(std::size_t drop = 0) const {
    return Imatrix::parse(std::span(bytes_).first(bytes_.size() - drop), "old.dat");
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  LegacyFile& put(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), bytes, bytes + size);
    return *this;
  }
  std::vector<std::byte> bytes_;
};

LegacyFile two_entries() {
  LegacyFile file;
  file.i32(2);
  file.text("blk.0.attn_q.weight").i32(4).i32(3).f32({4, 8, 12});
  file.text("blk.0.ffn_up.weight").i32(0).i32(2).f32({5, 7});
  file.i32(4).text("calibration.txt");
  return file;
}

void check_error(const Result<Imatrix>& result, const std::vector<std::string>& parts) {
  REQUIRE(!result);
  CHECK(result.error().code == ErrorCode::kBadFile);
  INFO(result.error().message);
  for (const auto& part : parts) CHECK(result.error().message.find(part) != std::string::npos);
}

void write(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

struct F32Tensor {
  std::string name;
  std::array<std::uint64_t, 4> shape;
  std::vector<float> values;
  TensorType type = TensorType::F32;
};

std::vector<std::byte> gguf_bytes(const std::vector<F32Tensor>& tensors) {
  const TempDir dir;
  std::vector<gguf::TensorSpec> specs;
  for (const auto& t : tensors) specs.push_back({t.name, t.type, 2, t.shape});
  auto writer = gguf::Writer::create(dir / "x.gguf", {}, specs);
  REQUIRE(writer);
  for (const auto& t : tensors) REQUIRE(writer->append(std::as_bytes(std::span(t.values))));
  REQUIRE(writer->finish());
  return test::read_bytes(dir / "x.gguf");
}

Result<Imatrix> parse_gguf(const std::vector<F32Tensor>& tensors) {
  return Imatrix::parse(gguf_bytes(tensors), "new.gguf");
}

}  // namespace

TEST_CASE("activations add up to mean squares") {
  Imatrix imatrix;
  REQUIRE(imatrix.add("w", std::vector<float>{2, 4, 6}, 2));
  REQUIRE(imatrix.add("w", std::vector<float>{1, 0, 3}, 1));
  CHECK(*imatrix.importance("w") == std::vector<float>{1, 4.0f / 3, 3});
  CHECK(imatrix.importance("other")->empty());

  const auto wrong = imatrix.add("w", std::vector<float>{1, 2}, 1);
  REQUIRE(!wrong);
  CHECK(wrong.error().code == ErrorCode::kInvalidArgument);
  CHECK(!imatrix.add("empty", {}, 1));
  CHECK(*imatrix.importance("w") == std::vector<float>{1, 4.0f / 3, 3});
}

TEST_CASE("values that are no mean squares name their tensor") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const std::pair<float, float> bad[] = {
      {nan, 1}, {inf, 1}, {-1, 1}, {1, nan}, {1, -1}, {std::numeric_limits<float>::max(), 1e-9f}};
  for (const auto& [sum, count] : bad) {
    Imatrix imatrix;
    REQUIRE(imatrix.add("blk.3.ffn_down.weight", std::vector<float>{1, sum}, count));
    const auto result = imatrix.importance("blk.3.ffn_down.weight");
    REQUIRE(!result);
    CHECK(result.error().code == ErrorCode::kBadData);
    CHECK(result.error().message.find("'blk.3.ffn_down.weight'") != std::string::npos);
    // A bad count shows at the first value, a bad sum where it is.
    const bool bad_count = !(count > 0);
    CHECK(result.error().message.find(bad_count ? "value 0" : "value 1") != std::string::npos);
  }
}

TEST_CASE("an imatrix survives saving and loading") {
  const TempDir dir;
  Imatrix imatrix;
  REQUIRE(imatrix.add("blk.0.attn_q.weight", std::vector<float>{2, 4, 6}, 2));
  REQUIRE(imatrix.add("output.weight", std::vector<float>{1e-30f, 0, 7}, 3));
  imatrix.datasets = {"a.txt", "b.txt"};
  imatrix.chunk_count = 12;
  imatrix.chunk_size = 512;
  REQUIRE(imatrix.save(dir / "x.gguf"));
  const auto loaded = Imatrix::load(dir / "x.gguf");
  REQUIRE(loaded);
  CHECK(loaded->datasets == imatrix.datasets);
  CHECK(loaded->chunk_count == 12);
  CHECK(loaded->chunk_size == 512);
  CHECK(loaded->source == (dir / "x.gguf").string());
  REQUIRE(loaded->entries().size() == 2);
  for (const auto& [name, entry] : imatrix.entries()) {
    CHECK(loaded->entries().at(name).sums == entry.sums);
    CHECK(loaded->entries().at(name).counts == entry.counts);
  }

  // What other programs look for.
  const auto file = gguf::File::open(dir / "x.gguf");
  REQUIRE(file);
  CHECK(file->get_string("general.type").value() == "imatrix");
  CHECK(file->get_int("imatrix.chunk_count").value() == 12);
  CHECK(file->find("imatrix.chunk_size")->type() == gguf::ValueType::U32);
  const auto* sums = file->find_tensor("output.weight.in_sum2");
  REQUIRE(sums);
  CHECK((sums->cols() == 3 && sums->rows() == 1));
  CHECK(file->find_tensor("output.weight.counts")->size() == 1);

  CHECK(Imatrix{}.save(dir / "empty.gguf").error().code == ErrorCode::kInvalidArgument);
  CHECK(Imatrix::load(dir / "absent").error().code == ErrorCode::kNotFound);
  CHECK(Imatrix::load(dir.path()).error().code == ErrorCode::kIo);
}

TEST_CASE("experts have counts of their own, and weight 1 where they were never met") {
  const auto imatrix =
      parse_gguf({{"blk.0.ffn_up_exps.weight.in_sum2", {2, 3, 1, 1}, {2, 4, 0, 0, 9, 12}},
                  {"blk.0.ffn_up_exps.weight.counts", {1, 3, 1, 1}, {2, 0, 3}}});
  REQUIRE(imatrix);
  CHECK(*imatrix->importance("blk.0.ffn_up_exps.weight") == std::vector<float>{1, 2, 1, 1, 3, 4});

  const TempDir dir;
  REQUIRE(imatrix->save(dir / "experts.gguf"));
  const auto again = Imatrix::load(dir / "experts.gguf");
  REQUIRE(again);
  CHECK(again->entries().at("blk.0.ffn_up_exps.weight").counts == std::vector<float>{2, 0, 3});
}

TEST_CASE("legacy files are read") {
  const auto imatrix = two_entries().parse();
  REQUIRE(imatrix);
  CHECK(*imatrix->importance("blk.0.attn_q.weight") == std::vector<float>{1, 2, 3});
  CHECK(*imatrix->importance("blk.0.ffn_up.weight") == std::vector<float>{5, 7});  // no calls
  CHECK(imatrix->datasets == std::vector<std::string>{"calibration.txt"});
  CHECK(imatrix->chunk_count == 4);

  const TempDir dir;
  write(dir / "old.dat", two_entries().bytes());
  const auto loaded = Imatrix::load(dir / "old.dat");
  REQUIRE(loaded);
  REQUIRE(loaded->save(dir / "new.gguf"));
  const auto converted = Imatrix::load(dir / "new.gguf");
  REQUIRE(converted);
  for (const auto& [name, entry] : imatrix->entries())
    CHECK(*converted->importance(name) == *imatrix->importance(name));
}

TEST_CASE("legacy files with errors say where") {
  check_error(LegacyFile().parse(), {"old.dat", "header at byte 0", "0 bytes left"});
  check_error(LegacyFile().i32(0).parse(), {"number of entries is 0"});
  check_error(LegacyFile().i32(-1).parse(), {"number of entries is -1"});
  check_error(LegacyFile().i32(1).text("").parse(), {"entry 1 of 1 at byte 4", "name is 0"});
  check_error(LegacyFile().i32(1).i32(0x7fffffff).parse(), {"entry 1 of 1", "tensor name"});
  check_error(LegacyFile().i32(1).text("w").i32(-2).parse(), {"'w'", "calls is -2"});
  check_error(LegacyFile().i32(1).text("w").i32(1).i32(0).parse(), {"'w'", "values is 0"});
  check_error(LegacyFile().i32(1).text("w").i32(1).i32(0x7fffffff).f32({1}).parse(),
              {"entry 'w' at byte 17", "the values"});
  check_error(
      LegacyFile().i32(2).text("w").i32(1).i32(1).f32({1}).text("w").i32(1).i32(1).f32({1}).parse(),
      {"'w'", "second entry"});
  auto trailing = two_entries();
  trailing.i32(0);
  check_error(trailing.parse(), {"trailer", "after the end"});
}

TEST_CASE("a legacy file cut anywhere is an error or a shorter file") {
  const auto whole = two_entries();
  int valid = 0;
  for (std::size_t drop = 1; drop <= whole.bytes().size(); ++drop) {
    const auto result = whole.parse(drop);
    if (result)
      ++valid;
    else
      CHECK(result.error().code == ErrorCode::kBadFile);
  }
  CHECK(valid == 1);  // without the trailer, as the oldest files were
}

TEST_CASE("a GGUF imatrix cut anywhere is an error") {
  const TempDir dir;
  Imatrix imatrix;
  REQUIRE(imatrix.add("w", std::vector<float>{2, 4, 6}, 2));
  REQUIRE(imatrix.save(dir / "x.gguf"));
  const auto bytes = test::read_bytes(dir / "x.gguf");
  REQUIRE(Imatrix::parse(bytes, "x"));
  // The padding after the last tensor may be missing.
  for (std::size_t size = 0; size + 32 < bytes.size(); ++size)
    CHECK(!Imatrix::parse(std::span(bytes).first(size), "x"));
}

TEST_CASE("GGUF files that are no imatrix are refused") {
  check_error(parse_gguf({{"w", {2, 1, 1, 1}, {1, 2}}}), {"new.gguf", "not an imatrix"});
  check_error(parse_gguf({{"w.in_sum2", {2, 1, 1, 1}, {1, 2}}}), {"'w.in_sum2'", "'counts'"});
  check_error(parse_gguf({{"w.counts", {1, 1, 1, 1}, {1}}}), {"'w.counts'", "'in_sum2'"});
  check_error(
      parse_gguf({{"w.in_sum2", {3, 1, 1, 1}, {1, 2, 3}}, {"w.counts", {2, 1, 1, 1}, {1, 2}}}),
      {"'w.in_sum2' at offset 0", "3 values", "2 counts"});
  check_error(parse_gguf({{"w.in_sum2", {2, 1, 1, 1}, {1, 2}},
                          {"w.counts", {2, 1, 1, 1}, {1}, TensorType::F16}}),
              {"'w.counts' at offset 32", "F16", "expected F32"});
}

}  // namespace kquant
