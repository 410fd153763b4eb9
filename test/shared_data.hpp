#pragma once
// Where tests find data: files in this source tree, and the reference data beside it.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace kquant::test {

/// A file of the source tree, such as source_path("examples/embedded_model/embedded.gguf").
std::filesystem::path source_path(const std::string& relative);

/// A file of the reference data; nullopt (and a visible SKIPPED warning) where it is absent.
std::optional<std::filesystem::path> shared_path(const std::string& relative);

/// A model too large for the reference data: models/NAME there, or NAME in the folder that the
/// environment variable KQUANT_TEST_MODELS names; nullopt (and a visible SKIPPED warning)
/// otherwise.
std::optional<std::filesystem::path> model_path(const std::string& name);

/// Whole contents; fails the running test when unreadable.
std::string read_text(const std::filesystem::path& path);
std::vector<float> read_floats(const std::filesystem::path& path);
std::vector<std::byte> read_bytes(const std::filesystem::path& path);

/// A folder that is removed with the object.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace kquant::test
