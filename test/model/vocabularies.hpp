#pragma once
// The vocabularies that tokenizer tests run on.

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kquant/gguf.hpp"
#include "kquant/model/tokenizer.hpp"

namespace kquant::test {

/// Fails the running test where the file does not load.
Tokenizer load_tokenizer(const std::filesystem::path& path);

/// The file of that name in this source tree, the reference data, or a folder named by the
/// environment variable KQUANT_TOKENIZERS; nullopt (and a visible SKIPPED warning) otherwise.
std::optional<std::filesystem::path> find_vocabulary(const std::string& name);

/// All that are there; at least the one of the source tree.
std::vector<std::filesystem::path> all_vocabularies();

/// test/model/fixtures/splitter.gguf with its metadata changed.
class EditedVocabulary {
 public:
  explicit EditedVocabulary(const std::function<void(gguf::Metadata&)>& edit);
  Result<Tokenizer> load() const;

 private:
  std::filesystem::path path_;
  std::shared_ptr<void> folder_;
};

}  // namespace kquant::test
