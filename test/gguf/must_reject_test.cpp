// Files that have broken other GGUF readers, and every rule of the format. Each must give an error
// that names what is wrong, where, and what was expected.

#include <catch2/catch.hpp>

#include "gguf/byte_builder.hpp"
#include "shared_data.hpp"

namespace kquant::gguf {
namespace {

using test::ByteBuilder;

constexpr std::uint32_t kF32 = 0, kI8 = 24, kI64 = 27, kQ4_K = 12;
constexpr std::uint64_t kHuge = std::uint64_t{1} << 63;

void rejects(const ByteBuilder& file, ErrorCode code, const std::vector<std::string>& parts) {
  test::ExactBytes bytes(file.bytes());
  const auto parsed = File::parse(bytes.span(), "evil.gguf");
  REQUIRE_FALSE(parsed);
  const std::string& message = parsed.error().message;
  INFO(message);
  CHECK(parsed.error().code == code);
  CHECK_THAT(message, Catch::StartsWith("evil.gguf: ") && Catch::Contains(" (at byte "));
  CHECK(message.find('\n') == std::string::npos);
  for (const std::string& part : parts) CHECK_THAT(message, Catch::Contains(part));
}

void rejects(const ByteBuilder& file, const std::vector<std::string>& parts) {
  rejects(file, ErrorCode::kBadFile, parts);
}

void accepts(const ByteBuilder& file, const OpenOptions& options = {}) {
  test::ExactBytes bytes(file.bytes());
  const auto parsed = File::parse(bytes.span(), "good.gguf", options);
  INFO((parsed ? "" : parsed.error().message));
  CHECK(parsed);
}

ByteBuilder one_tensor(const std::vector<std::uint64_t>& shape, std::uint32_t type,
                       std::uint64_t offset = 0, std::size_t data_bytes = 64) {
  return ByteBuilder().header(1, 0).tensor("t", shape, type, offset).pad(32).zeros(data_bytes);
}

ByteBuilder aligned_to(std::uint32_t alignment) {
  return ByteBuilder()
      .header(1, 1)
      .key("general.alignment", ValueType::U32)
      .u32(alignment)
      .tensor("t", {16}, kF32, 0)
      .pad(alignment >= 8 && alignment <= 65536 ? alignment : 32)
      .zeros(64);
}

}  // namespace

TEST_CASE("must reject: other files, versions and byte orders") {
  rejects(ByteBuilder(), {"the file ends in the magic number", "0 bytes remain"});
  rejects(ByteBuilder().text("GGUF"), {"the file ends in the version number"});
  rejects(ByteBuilder().text("GGUF").u32(3).u64(0), {"the file ends in the header"});
  rejects(ByteBuilder().text("ggjt").u32(3).zeros(64), {"not a GGUF file", "'ggjt'"});
  rejects(ByteBuilder().text("\x7f\nLF").u32(3).zeros(64), {"'\\x7f\\x0aLF'"});
  for (const std::uint32_t version : {0u, 1u, 4u, 0xffffffffu})
    rejects(ByteBuilder().header(0, 0, version), ErrorCode::kUnsupported,
            {"GGUF version " + std::to_string(version), "expected 2 or 3"});
  for (const std::uint32_t version : {0x02000000u, 0x03000000u})
    rejects(ByteBuilder().header(0, 0, version), ErrorCode::kUnsupported,
            {"big-endian", "expected little-endian"});
  accepts(ByteBuilder().header(0, 0, 2));
  accepts(ByteBuilder().header(0, 0, 3));
}

TEST_CASE("must reject: counts that no file can hold") {
  for (const std::uint64_t count : {kHuge, ~std::uint64_t{0}, (std::uint64_t{1} << 30) + 1}) {
    rejects(ByteBuilder().header(count, 0), {"tensors; expected at most 2^30"});
    rejects(ByteBuilder().header(0, count), {"metadata keys; expected at most 2^30"});
  }
  // Within the limit, but more than there are: must not reserve memory for the claim.
  rejects(ByteBuilder().header(1u << 30, 0), {"tensor 0: ", "the file ends in a tensor name"});
  rejects(ByteBuilder().header(0, 1u << 30), {"key 0: ", "the file ends in a key"});
}

TEST_CASE("must reject: strings longer than the file") {
  for (const std::uint64_t length : {std::uint64_t{5}, std::uint64_t{1} << 30, kHuge, ~kHuge,
                                     ~std::uint64_t{0}, ~std::uint64_t{0} - 7}) {
    rejects(ByteBuilder().header(0, 1).u64(length).text("name"), {"key 0", "ends in a key"});
    rejects(ByteBuilder().header(0, 1).key("k", ValueType::String).u64(length).text("text"),
            {"key 'k'", "string of " + std::to_string(length) + " bytes"});
    rejects(ByteBuilder().header(1, 0).u64(length).text("name"), {"tensor 0", "tensor name"});
  }
}

TEST_CASE("must reject: arrays longer than the file") {
  for (const std::uint64_t count :
       {std::uint64_t{3}, std::uint64_t{1} << 30, (std::uint64_t{1} << 30) + 1,
        std::uint64_t{1} << 61, kHuge, ~std::uint64_t{0}})
    for (const ValueType type :
         {ValueType::U8, ValueType::Bool, ValueType::F32, ValueType::U64, ValueType::String}) {
      const auto file = ByteBuilder().header(0, 1).array("k", type, count).u8(0).u8(0);
      rejects(file, {"key 'k'"});
    }
  rejects(ByteBuilder().header(0, 1).array("k", ValueType::F32, 3).zeros(11),
          {"key 'k'", "3 values of type f32 do not fit", "11 bytes remain"});
  rejects(ByteBuilder().header(0, 1).array("k", ValueType::F32, (1u << 30) + 1).zeros(11),
          {"key 'k'", "array of 1073741825 elements", "at most 2^30"});
  accepts(ByteBuilder().header(0, 1).array("k", ValueType::F32, 3).zeros(12));
  accepts(ByteBuilder().header(0, 1).array("k", ValueType::String, 0));
}

TEST_CASE("must reject: value types that do not exist, and arrays of arrays") {
  rejects(ByteBuilder().header(0, 1).string("k").u32(13).zeros(64),
          {"key 'k'", "value type 13 does not exist", "expected 0 to 12"});
  rejects(ByteBuilder().header(0, 1).string("k").u32(~0u).zeros(64), {"key 'k'", "value type"});
  rejects(ByteBuilder().header(0, 1).array("k", ValueType{13}, 0), {"key 'k'", "value type 13"});
  rejects(ByteBuilder().header(0, 1).array("k", ValueType::Array, 1).zeros(64),
          ErrorCode::kUnsupported, {"key 'k'", "arrays of arrays"});
}

TEST_CASE("must reject: bools that are neither 0 nor 1") {
  rejects(ByteBuilder().header(0, 1).key("k", ValueType::Bool).u8(2),
          {"key 'k'", "a bool is 2", "expected 0 or 1"});
  rejects(ByteBuilder().header(0, 1).array("k", ValueType::Bool, 3).u8(0).u8(1).u8(255),
          {"key 'k'", "a bool is 255"});
}

TEST_CASE("must reject: empty, overlong and duplicate keys") {
  rejects(ByteBuilder().header(0, 1).key("", ValueType::U8).u8(0), {"key 0", "the key is empty"});
  rejects(ByteBuilder().header(0, 1).key(std::string(65536, 'k'), ValueType::U8).u8(0),
          {"key of 65536 bytes", "at most 65535"});
  accepts(ByteBuilder().header(0, 1).key(std::string(65535, 'k'), ValueType::U8).u8(0));
  rejects(ByteBuilder()
              .header(0, 3)
              .key("twice", ValueType::U8)
              .u8(0)
              .key("once", ValueType::U8)
              .u8(0)
              .key("twice", ValueType::String)
              .string("x"),
          {"key 'twice'", "appears twice"});
}

TEST_CASE("must reject: alignments of 0, not a power of two, too small or huge") {
  for (const std::uint32_t alignment : {0u, 1u, 4u, 12u, 33u, 131072u, 0x80000000u, ~0u})
    rejects(aligned_to(alignment),
            {"key 'general.alignment'", "expected a power of two from 8 to 65536",
             "found " + std::to_string(alignment)});
  rejects(ByteBuilder().header(0, 1).key("general.alignment", ValueType::U64).u64(32),
          {"key 'general.alignment'", "expected a u32, found u64"});
  rejects(ByteBuilder().header(0, 1).key("general.alignment", ValueType::String).string("32"),
          {"expected a u32, found string"});
  for (const std::uint32_t alignment : {8u, 32u, 65536u}) accepts(aligned_to(alignment));
}

TEST_CASE("must reject: dimensions of 0, too many dimensions, products that overflow") {
  rejects(one_tensor({}, kF32), {"tensor 't'", "0 dimensions", "expected 1 to 4"});
  rejects(one_tensor({1, 1, 1, 1, 1}, kF32), {"tensor 't'", "5 dimensions"});
  rejects(ByteBuilder().header(1, 0).string("t").u32(~0u).zeros(64), {"4294967295 dimensions"});
  rejects(one_tensor({0}, kF32), {"tensor 't'", "a dimension is 0"});
  rejects(one_tensor({16, 0}, kF32), {"tensor 't'", "a dimension is 0"});
  rejects(one_tensor({kHuge, 0}, kF32), {"tensor 't'", "a dimension is 0"});
  const std::uint64_t k32 = std::uint64_t{1} << 32;
  for (const auto& shape : std::vector<std::vector<std::uint64_t>>{
           {kHuge}, {~std::uint64_t{0}}, {k32, k32}, {k32, k32, k32, k32}, {k32, 1, 1, k32 / 2}})
    rejects(one_tensor(shape, kI8), {"tensor 't'", "product of 2^63 or more"});
  // 2^60 weights are fewer than 2^63, but 2^63 bytes.
  rejects(one_tensor({std::uint64_t{1} << 60}, kI64), {"tensor 't'", "2^63 bytes"});
  rejects(one_tensor({std::uint64_t{1} << 60}, kF32), {"tensor 't'", "do not fit"});
}

TEST_CASE("must reject: columns that are not whole blocks") {
  rejects(one_tensor({255}, kQ4_K, 0, 144), {"tensor 't'", "255 columns", "Q4_K's block of 256"});
  rejects(one_tensor({16, 16}, kQ4_K, 0, 144), {"tensor 't'", "16 columns"});
  accepts(one_tensor({256}, kQ4_K, 0, 144));
}

TEST_CASE("must reject: tensor types that are not known") {
  for (const std::uint32_t type : {4u, 5u, 31u, 33u, 36u, 1000u, ~0u})
    rejects(one_tensor({256}, type), ErrorCode::kUnsupported,
            {"tensor 't'", "tensor type " + std::to_string(type) + " is not known"});
}

TEST_CASE("must reject: tensor data beyond the end of the file") {
  rejects(one_tensor({17}, kF32), {"tensor 't'", "68 bytes at offset 0 do not fit", "128 bytes"});
  accepts(one_tensor({16}, kF32));
  const OpenOptions loose{.strict = false, .follow_splits = true};
  for (const std::uint64_t offset :
       {std::uint64_t{64}, kHuge, ~std::uint64_t{0} - 31, ~std::uint64_t{0} - 63}) {
    rejects(one_tensor({16}, kF32, offset), {"tensor 't'", "expected 0"});
    const auto file = one_tensor({16}, kF32, offset);
    test::ExactBytes bytes(file.bytes());
    const auto parsed = File::parse(bytes.span(), "evil.gguf", loose);
    REQUIRE_FALSE(parsed);
    CHECK_THAT(parsed.error().message, Catch::Contains("do not fit"));
  }
  // The infos end where the file does: no byte of the data section is there.
  rejects(ByteBuilder().header(1, 0).tensor("t", {1}, kI8, 0), {"tensor 't'", "do not fit"});
}

TEST_CASE("must reject: offsets that are not aligned or not the running sum") {
  rejects(one_tensor({1}, kF32, 4), {"tensor 't'", "offset 4", "multiple of the alignment 32"});
  const auto two = [](std::uint64_t first, std::uint64_t second) {
    return ByteBuilder()
        .header(2, 0)
        .tensor("a", {9}, kF32, first)
        .tensor("b", {9}, kF32, second)
        .pad(32)
        .zeros(256);
  };
  accepts(two(0, 64));
  rejects(two(0, 32), {"tensor 'b'", "offset 32", "expected 64"});
  rejects(two(0, 96), {"tensor 'b'", "offset 96", "expected 64"});
  rejects(two(64, 0), {"tensor 'a'", "offset 64", "expected 0"});
  accepts(two(64, 0), {.strict = false, .follow_splits = true});
}

TEST_CASE("must reject: empty, overlong and duplicate tensor names") {
  const auto named = [](std::string_view a, std::string_view b) {
    return ByteBuilder()
        .header(2, 0)
        .tensor(a, {8}, kF32, 0)
        .tensor(b, {8}, kF32, 32)
        .pad(32)
        .zeros(64);
  };
  accepts(named("a", std::string(63, 'n')));
  rejects(named("a", std::string(64, 'n')), {"tensor 1", "name of 64 bytes", "at most 63"});
  rejects(named("a", ""), {"tensor 1", "the name is empty"});
  rejects(named("same", "same"), {"tensor 'same'", "the name appears twice"});
}

TEST_CASE("must reject: typed getters on another type or a missing key") {
  const auto file = ByteBuilder()
                        .header(0, 4)
                        .array("tokenizer.ggml.scores", ValueType::I8, 4)
                        .zeros(4)
                        .key("big", ValueType::U64)
                        .u64(~std::uint64_t{0})
                        .key("text", ValueType::String)
                        .string("x")
                        .array("strings", ValueType::String, 1)
                        .string("x");
  test::ExactBytes bytes(file.bytes());
  const auto parsed = File::parse(bytes.span(), "m.gguf");
  REQUIRE(parsed);
  const auto message = [](const auto& result) {
    REQUIRE_FALSE(result);
    return result.error().message;
  };
  CHECK(
      message(parsed->get_strings("tokenizer.ggml.scores")) ==
      "m.gguf: key 'tokenizer.ggml.scores': expected an array of strings, found an array of 4 i8");
  CHECK(message(parsed->get_int("big")) ==
        "m.gguf: key 'big': expected an integer below 2^63, found u64");
  CHECK(message(parsed->get_int("text")) ==
        "m.gguf: key 'text': expected an integer below 2^63, found string");
  CHECK(message(parsed->get_float("text")) ==
        "m.gguf: key 'text': expected a number, found string");
  CHECK(message(parsed->get_bool("text")) == "m.gguf: key 'text': expected a bool, found string");
  CHECK(message(parsed->get_string("big")) == "m.gguf: key 'big': expected a string, found u64");
  CHECK(message(parsed->get_ints("strings")) ==
        "m.gguf: key 'strings': expected an array of integers below 2^63, found an array of 1 "
        "string");
  CHECK(message(parsed->get_floats("text")) ==
        "m.gguf: key 'text': expected an array of numbers, found string");
  const auto missing = parsed->get_int("none");
  CHECK(message(missing) == "m.gguf: key 'none': not in the file; expected an integer below 2^63");
  CHECK(missing.error().code == ErrorCode::kNotFound);
  CHECK(parsed->get_float("big") == 0x1p64);
}

TEST_CASE("must reject: bytes in memory that are not aligned") {
  alignas(8) std::byte bytes[32] = {};
  const auto parsed = File::parse(std::span(bytes).subspan(4), "m.gguf");
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("must reject: paths that are no file") {
  const test::TempDir folder;
  const auto missing = File::open(folder / "none.gguf");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == ErrorCode::kNotFound);
  CHECK_THAT(missing.error().message, Catch::Contains("none.gguf: cannot open: No such file"));
  const auto directory = File::open(folder.path());
  REQUIRE_FALSE(directory);
  CHECK(directory.error().code == ErrorCode::kIo);
  CHECK_THAT(directory.error().message, Catch::Contains("not a regular file"));
}

}  // namespace kquant::gguf
