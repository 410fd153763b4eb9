#include "test/model/fixture.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "shared_data.hpp"

namespace kquant::test {

std::filesystem::path fixture_path(const std::string& gguf) {
  return source_path("test/model/fixtures/" + gguf);
}

std::vector<std::string> expectation_names() {
  const std::string suffix = ".logits.json";
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(fixture_path(""))) {
    const std::string file = entry.path().filename().string();
    if (file.ends_with(suffix)) names.push_back(file.substr(0, file.size() - suffix.size()));
  }
  std::ranges::sort(names);
  return names;
}

Expectation read_expectation(const std::string& name) {
  const auto json = nlohmann::json::parse(read_text(fixture_path(name + ".logits.json")));
  return {json["gguf"], json["n_ctx"], json["tokens"], json["logits"]};
}

Transformer load_fixture(const std::string& gguf) {
  auto model = Transformer::load(fixture_path(gguf));
  INFO((model ? "" : model.error().message));
  REQUIRE(model);
  return std::move(*model);
}

Model::Tensor& Model::tensor(const std::string& name) {
  const auto found = std::ranges::find(tensors, name, [](const Tensor& t) { return t.spec.name; });
  REQUIRE(found != tensors.end());
  return *found;
}

void Model::erase(const std::string& name) {
  REQUIRE(std::erase_if(tensors, [&](const Tensor& t) { return t.spec.name == name; }) == 1);
}

void write_changed(const std::string& gguf, const std::filesystem::path& target,
                   const std::function<void(Model&)>& change) {
  const auto file = gguf::File::open(fixture_path(gguf));
  REQUIRE(file);
  Model model{gguf::Metadata::copy_of(*file), {}};
  for (const gguf::Tensor& tensor : file->tensors())
    model.tensors.push_back({{std::string(tensor.name), tensor.type, tensor.n_dims, tensor.shape},
                             {tensor.data.begin(), tensor.data.end()}});
  change(model);
  std::vector<gguf::TensorSpec> specs;
  for (const auto& tensor : model.tensors) specs.push_back(tensor.spec);
  auto writer = gguf::Writer::create(target, model.metadata, specs);
  REQUIRE(writer);
  for (const auto& tensor : model.tensors) REQUIRE(writer->append(tensor.data));
  REQUIRE(writer->finish());
}

void quantize(const std::filesystem::path& from, const std::filesystem::path& to,
              std::string_view recipe, const QuantizeModelOptions& options) {
  const auto source = gguf::File::open(from);
  REQUIRE(source);
  const auto found = find_recipe(recipe);
  REQUIRE(found);
  REQUIRE(quantize_model(*source, to, *found, options));
}

std::vector<float> logits_of(Transformer& model, std::span<const Token> tokens, KvCache& cache,
                             std::size_t rows) {
  const auto vocab_size = static_cast<std::size_t>(model.config().vocab_size);
  std::vector<float> logits(rows * vocab_size);
  const auto done = model.forward(tokens, cache, {logits.data(), rows, vocab_size});
  INFO((done ? "" : done.error().message));
  REQUIRE(done);
  return logits;
}

}  // namespace kquant::test
