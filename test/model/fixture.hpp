#pragma once
// The small models of test/model/fixtures, and copies of them with something changed.

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kquant/gguf.hpp"
#include "kquant/model/transformer.hpp"
#include "kquant/quantize_model.hpp"

namespace kquant::test {

/// NAME.logits.json: what a model must answer.
struct Expectation {
  std::string gguf;
  int n_ctx = 0;
  std::vector<Token> tokens;
  std::vector<std::vector<float>> logits;  ///< of each token
};

std::vector<std::string> expectation_names();
Expectation read_expectation(const std::string& name);

std::filesystem::path fixture_path(const std::string& gguf);
Transformer load_fixture(const std::string& gguf);

/// A model on its way from one file to another.
struct Model {
  struct Tensor {
    gguf::TensorSpec spec;
    std::vector<std::byte> data;
  };
  gguf::Metadata metadata;
  std::vector<Tensor> tensors;

  Tensor& tensor(const std::string& name);
  void erase(const std::string& name);
};

/// Writes `gguf`, as changed by `change`, to `target`.
void write_changed(const std::string& gguf, const std::filesystem::path& target,
                   const std::function<void(Model&)>& change);

/// Writes the model `from`, quantized by the recipe of this name, to `to`.
void quantize(const std::filesystem::path& from, const std::filesystem::path& to,
              std::string_view recipe, const QuantizeModelOptions& options = {});

/// Logits of the last `rows` tokens.
std::vector<float> logits_of(Transformer& model, std::span<const Token> tokens, KvCache& cache,
                             std::size_t rows);

}  // namespace kquant::test
