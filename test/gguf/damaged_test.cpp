// A small valid file, cut at every byte and with every byte changed: an error that says something,
// or a file whose every byte can be read. The buffers end where the file does, so that a sanitizer
// build sees any read beyond.

#include <catch2/catch.hpp>

#include "gguf/byte_builder.hpp"
#include "shared_data.hpp"

namespace kquant::gguf {
namespace {

// Every value type, an array of each kind, two tensors.
std::vector<std::byte> small_file() {
  test::ByteBuilder b;
  b.header(2, 16);
  b.key("general.alignment", ValueType::U32).u32(32);
  b.key("a.u8", ValueType::U8).u8(200);
  b.key("a.i8", ValueType::I8).u8(200);
  b.key("a.u16", ValueType::U16).number(std::uint16_t{60000});
  b.key("a.i16", ValueType::I16).number(std::int16_t{-1});
  b.key("a.i32", ValueType::I32).number(std::int32_t{-1});
  b.key("a.f32", ValueType::F32).number(1.5f);
  b.key("a.bool", ValueType::Bool).u8(1);
  b.key("a.string", ValueType::String).string("text");
  b.key("a.u64", ValueType::U64).u64(1);
  b.key("a.i64", ValueType::I64).u64(~std::uint64_t{0});
  b.key("a.f64", ValueType::F64).number(2.5);
  b.array("b.strings", ValueType::String, 3).string("x").string("").string("yz");
  b.array("b.bools", ValueType::Bool, 2).u8(0).u8(1);
  b.array("b.i16", ValueType::I16, 2).u32(7);
  b.array("b.none", ValueType::F64, 0);
  b.tensor("t.one", {256, 2}, 12, 0);
  b.tensor("t.two", {3, 2, 2}, 1, 288);
  return b.pad(32).zeros(288).zeros(24).bytes();
}

// Whether the bytes were accepted.
bool parse_and_read(std::span<const std::byte> bytes, bool strict) {
  test::ExactBytes exact(bytes);
  const auto file = File::parse(exact.span(), "damaged.gguf", {strict, true});
  if (file) {
    static_cast<void>(test::read_everything(*file));
    return true;
  }
  const ErrorCode code = file.error().code;
  if (code != ErrorCode::kBadFile && code != ErrorCode::kUnsupported) FAIL(file.error().message);
  if (!Catch::StartsWith("damaged.gguf: ").match(file.error().message)) FAIL(file.error().message);
  return false;
}

}  // namespace

TEST_CASE("a file cut at any byte is an error") {
  const std::vector<std::byte> whole = small_file();
  REQUIRE(parse_and_read(whole, true));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    INFO(size << " of " << whole.size() << " bytes");
    CHECK_FALSE(parse_and_read(std::span(whole).first(size), true));
    CHECK_FALSE(parse_and_read(std::span(whole).first(size), false));
  }
}

TEST_CASE("a file with any byte changed is an error or can be read") {
  std::vector<std::byte> bytes = small_file();
  std::size_t accepted = 0, refused = 0;
  for (std::byte& b : bytes) {
    const std::byte original = b;
    std::vector<std::byte> values = {std::byte{0},    std::byte{1},    std::byte{9},
                                     std::byte{0x7f}, std::byte{0x80}, std::byte{0xff}};
    for (int bit = 0; bit < 8; ++bit) values.push_back(original ^ std::byte(1 << bit));
    for (const std::byte value : values) {
      b = value;
      ++(parse_and_read(bytes, true) ? accepted : refused);
      parse_and_read(bytes, false);
    }
    b = original;
  }
  CHECK(accepted > 1000);  // tensor data, texts, numbers
  CHECK(refused > 1000);   // lengths, types, counts
}

TEST_CASE("values with bytes that do not fit their type are not decoded") {
  const std::byte few[3] = {};
  for (std::uint32_t type = 0; type < 14; ++type) {
    const Value value(ValueType{type}, ValueType{type}, 1, std::span(few).first(0));
    CHECK_FALSE(value.as_int());
    CHECK_FALSE(value.as_float());
    CHECK_FALSE(value.as_bool());
    CHECK_FALSE(value.as_string());
    for (const std::size_t size : {0u, 3u}) {
      const Value array(ValueType::Array, ValueType{type}, 4, std::span(few).first(size));
      CHECK_FALSE(array.as_strings());
      CHECK_FALSE(array.as_ints());
      CHECK_FALSE(array.as_floats());
    }
  }
}

}  // namespace kquant::gguf
