// Any bytes: an error, or a file that can be read to the last byte.

#include "fuzz/fuzz.hpp"
#include "gguf/byte_builder.hpp"
#include "kquant/gguf.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kquant;
  for (const bool strict : {false, true}) {
    const auto file =
        gguf::File::parse(fuzz::as_bytes(data, size), "fuzz", {strict, /*follow_splits=*/true});
    if (!file) {
      fuzz::check(file.error());
      continue;
    }
    static_cast<void>(test::read_everything(*file));
    for (std::size_t i = 0; i < file->metadata_count(); ++i)
      for (const auto& text : {file->get_string(file->key(i)), file->get_string("no such key")})
        if (!text) fuzz::check(text.error());
  }
  return 0;
}
