#include "shared_data.hpp"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

namespace kquant::test {

std::filesystem::path source_path(const std::string& relative) {
  return std::filesystem::path(KQUANT_SOURCE_DIR) / relative;
}

std::optional<std::filesystem::path> shared_path(const std::string& relative) {
  const std::filesystem::path path = std::filesystem::path(KQUANT_SHARED_DIR) / relative;
  if (std::filesystem::exists(path)) return path;
  WARN("SKIPPED: reference data not found: " << path.string());
  return std::nullopt;
}

std::optional<std::filesystem::path> model_path(const std::string& name) {
  if (const char* const folder = std::getenv("KQUANT_TEST_MODELS"))
    if (const auto path = std::filesystem::path(folder) / name; std::filesystem::exists(path))
      return path;
  return shared_path("models/" + name);
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  INFO(path.string());
  REQUIRE(in.good());
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::byte> read_bytes(const std::filesystem::path& path) {
  const std::string text = read_text(path);
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

std::vector<float> read_floats(const std::filesystem::path& path) {
  const std::string text = read_text(path);
  std::vector<float> floats(text.size() / sizeof(float));
  std::memcpy(floats.data(), text.data(), floats.size() * sizeof(float));
  return floats;
}

TempDir::TempDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "kquant-test-XXXXXX").string();
  REQUIRE(mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace kquant::test
