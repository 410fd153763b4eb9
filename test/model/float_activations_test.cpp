// Weights in block formats with activations that are not rounded: the same model as a file of the
// dequantized weights.

#include <catch2/catch.hpp>
#include <cmath>
#include <map>

#include "model/weights.hpp"
#include "shared_data.hpp"
#include "test/model/fixture.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

Transformer load(const std::filesystem::path& path, ActivationPrecision activations) {
  auto model = Transformer::load(path, {.activations = activations});
  if (!model) FAIL(model.error().message);
  return std::move(*model);
}

/// Logits of a prompt and of a token after it.
std::vector<float> some_logits(Transformer& model) {
  std::vector<Token> tokens;
  for (Token i = 0; i < 19; ++i) tokens.push_back((i * 37 + 5) % model.config().vocab_size);
  KvCache cache(model.config(), 32);
  auto all = logits_of(model, std::span(tokens).first(18), cache, 18);
  const auto one = logits_of(model, std::span(tokens).last(1), cache, 1);
  all.insert(all.end(), one.begin(), one.end());
  return all;
}

/// How far a is from b, by the size of b.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += std::pow(double{a[i]} - double{b[i]}, 2);
    norm += std::pow(double{b[i]}, 2);
  }
  return std::sqrt(error / norm);
}

}  // namespace

TEST_CASE("float activations give the logits of a file of dequantized weights, bit for bit") {
  const TempDir folder;
  // The embedded model's output matrix is its embedding; phi3's is not, and its Q, K and V are one
  // matrix.
  for (const auto& [source, has_output] :
       {std::pair(source_path("examples/embedded_model/embedded.gguf"), false),
        {fixture_path("phi3.gguf"), true}})
    for (const std::string recipe : {"Q4_K_M", "Q8_0"}) {
      INFO(source << " " << recipe);
      quantize(source, folder / "quantized.gguf", recipe, {.effort = Effort::kFast});
      quantize(folder / "quantized.gguf", folder / "plain.gguf", "F32");
      Transformer plain = load(folder / "plain.gguf", ActivationPrecision::kInt8);
      Transformer floats = load(folder / "quantized.gguf", ActivationPrecision::kFloat);
      Transformer rounded = load(folder / "quantized.gguf", ActivationPrecision::kInt8);
      REQUIRE((floats.file().find_tensor("output.weight") != nullptr) == has_output);
      const auto expected = some_logits(plain);
      CHECK(some_logits(floats) == expected);
      const double rounding = distance(some_logits(rounded), expected);
      CHECK(rounding > 0);
      CHECK(rounding < 0.04);
    }
}

TEST_CASE("observers see what they see of weights that are packed") {
  const TempDir folder;
  quantize(source_path("examples/embedded_model/embedded.gguf"), folder / "q.gguf", "Q4_K_M",
           {.effort = Effort::kFast});
  using Seen = std::map<std::string, std::pair<std::size_t, std::size_t>>;  // rows, columns
  const auto seen = [&](ActivationPrecision activations) {
    Transformer model = load(folder / "q.gguf", activations);
    Seen out;
    model.observe([&](std::string_view name, Span2d<const float> x) {
      auto& [rows, cols] = out[std::string(name)];
      rows += x.rows;
      cols = x.cols;
    });
    some_logits(model);
    return out;
  };
  const Seen found = seen(ActivationPrecision::kFloat);
  CHECK(found == seen(ActivationPrecision::kInt8));
  CHECK(found.at("token_embd.weight").first == 19);  // the output matrix
  CHECK(found.at("blk.3.ffn_down.weight").second == 512);
}

TEST_CASE("float activations of weights that stay in the file are refused") {
  const auto model =
      Transformer::load(fixture_path("llama2.gguf"),
                        {.weights = Layout::kRows, .activations = ActivationPrecision::kFloat});
  REQUIRE_FALSE(model);
  CHECK(model.error().code == ErrorCode::kInvalidArgument);
  CHECK_THAT(model.error().message, Catch::Contains("llama2.gguf: float activations"));
}

TEST_CASE("F32 copies that do not fit are refused with what they need") {
  const auto file = gguf::File::open(fixture_path("llama2.gguf"));
  REQUIRE(file);
  const auto message = [&](std::size_t rows) {
    Weights weights;
    weights.output.matrices = {{TensorType::Q2_K, 64, 256, nullptr},
                               {TensorType::Q2_K, rows, 256, nullptr}};
    const auto done = dequantize_weights(*file, weights);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == ErrorCode::kOutOfMemory);
    CHECK(weights.output.matrices[1].type == TensorType::Q2_K);
    return done.error().message;
  };
  CHECK_THAT(message(std::size_t{1} << 56),
             Catch::Contains("llama2.gguf: no memory for 2 matrices in F32") &&
                 Catch::Contains("more than 2^64 bytes"));
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  return;  // whose allocators end the program
#endif
#endif
  CHECK_THAT(message(std::size_t{1} << 45), Catch::Contains("36028797019029504 bytes"));
}
