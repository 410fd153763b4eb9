// Errors name what they found in files, whatever that is.

#include "kquant/base/error.hpp"

#include <catch2/catch.hpp>

using namespace kquant;

TEST_CASE("an error message is one line without control characters") {
  const Error error(ErrorCode::kBadFile, "tensor 'a\nb\x1b[2J\x7f': odd \xc3\xa9");
  CHECK(error.message == "tensor 'a\\nb\\x1b[2J\\x7f': odd \xc3\xa9");
  CHECK(error.code == ErrorCode::kBadFile);
}

TEST_CASE("a context is added in front, and escaped like the rest") {
  const Result<int> first = fail(ErrorCode::kIo, "cannot\tread");
  const Result<int> second = fail(first.error(), "model\r.gguf");
  CHECK(second.error().message == "model\\x0d.gguf: cannot\\x09read");
  CHECK(second.error().code == ErrorCode::kIo);
}
