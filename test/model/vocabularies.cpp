#include "vocabularies.hpp"

#include <catch2/catch.hpp>
#include <cstdlib>

#include "shared_data.hpp"

namespace kquant::test {

namespace fs = std::filesystem;

namespace {

std::vector<fs::path> folders() {
  std::vector<fs::path> result{source_path("test/model/fixtures")};
  if (const auto shared = shared_path("data/tokenizers")) result.push_back(*shared);
  if (const char* const more = std::getenv("KQUANT_TOKENIZERS")) result.emplace_back(more);
  return result;
}

}  // namespace

Tokenizer load_tokenizer(const fs::path& path) {
  INFO(path.string());
  const auto file = gguf::File::open(path);
  if (!file) FAIL(file.error().message);
  auto tokenizer = Tokenizer::load(*file);
  if (!tokenizer) FAIL(tokenizer.error().message);
  return std::move(*tokenizer);
}

std::optional<fs::path> find_vocabulary(const std::string& name) {
  for (const fs::path& folder : folders())
    if (fs::exists(folder / name)) return folder / name;
  WARN("SKIPPED: no vocabulary " << name << " (KQUANT_TOKENIZERS may name a folder that has it)");
  return std::nullopt;
}

std::vector<fs::path> all_vocabularies() {
  std::vector<fs::path> result{source_path("test/model/fixtures/splitter.gguf")};
  const fs::path embedded = source_path("examples/embedded_model/embedded.gguf");
  if (fs::exists(embedded)) result.push_back(embedded);
  for (const fs::path& folder : folders()) {
    if (folder == result[0].parent_path()) continue;
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() != ".gguf") continue;
      const auto file = gguf::File::open(entry.path());
      if (!file) FAIL(entry.path() << ": " << file.error().message);
      const auto model = file->get_string("tokenizer.ggml.model");
      if (model && (*model == "llama" || *model == "gpt2")) result.push_back(entry.path());
    }
  }
  return result;
}

EditedVocabulary::EditedVocabulary(const std::function<void(gguf::Metadata&)>& edit) {
  auto folder = std::make_shared<TempDir>();
  path_ = *folder / "edited.gguf";
  folder_ = folder;
  const auto original = gguf::File::open(source_path("test/model/fixtures/splitter.gguf"));
  if (!original) FAIL(original.error().message);
  gguf::Metadata metadata = gguf::Metadata::copy_of(*original);
  edit(metadata);
  auto writer = gguf::Writer::create(path_, metadata, {});
  if (!writer) FAIL(writer.error().message);
  const auto finished = writer->finish();
  if (!finished) FAIL(finished.error().message);
}

Result<Tokenizer> EditedVocabulary::load() const {
  const auto file = gguf::File::open(path_);
  if (!file) FAIL(file.error().message);
  return Tokenizer::load(*file);
}

}  // namespace kquant::test
