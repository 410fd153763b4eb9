// Models divided among devices against one device and the CPU.
#include <random>
#include <string>

#include "models.hpp"

using namespace kquant;
using test::distance, test::load, test::quantize, test::some_tokens;

namespace {

/// Two layers with 4 KV heads of 128 dimensions to 8 heads, as wide as four super-blocks: what four
/// devices can divide in any format.
constexpr std::uint32_t kEmbd = 256, kFf = 1024, kHeads = 8, kKvHeads = 4, kDim = 128;

/// A llama fixture's vocabulary and switches with random weights of these shapes; biases
/// everywhere.
void write_wide(const std::string& gguf, const std::filesystem::path& path) {
  test::write_changed(gguf, path, [](test::Model& model) {
    const auto set = [&](const char* key, std::uint32_t value) {
      model.metadata.set_u32(std::string("llama.") + key, value);
    };
    set("embedding_length", kEmbd);
    set("feed_forward_length", kFf);
    set("attention.head_count", kHeads);
    set("attention.head_count_kv", kKvHeads);
    set("attention.key_length", kDim);
    set("attention.value_length", kDim);
    set("rope.dimension_count", kDim);
    for (const char* layer : {"0", "1"})
      for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output", "ffn_down"})
        model.tensors.push_back(
            {{std::string("blk.") + layer + "." + name + ".bias", TensorType::F32, 1}, {}});
    std::minstd_rand random(7);
    std::normal_distribution<float> normal;
    std::erase_if(model.tensors,
                  [](const auto& tensor) { return tensor.spec.name.starts_with("blk.2."); });
    set("block_count", 2);
    for (test::Model::Tensor& tensor : model.tensors) {
      auto& shape = tensor.spec.shape;
      const std::string& name = tensor.spec.name;
      const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
      const std::uint64_t outputs = has("attn_q")                      ? kHeads * kDim
                                    : has("attn_k") || has("_v")       ? kKvHeads * kDim
                                    : has("ffn_gate") || has("ffn_up") ? kFf
                                                                       : kEmbd;
      const std::uint64_t inputs = has("attn_output") ? kHeads * kDim
                                   : has("ffn_down")  ? kFf
                                                      : kEmbd;
      const bool vector = tensor.spec.n_dims == 1, norm = has("norm");
      if (vector)
        shape = {name == "rope_freqs.weight" ? kDim / 2 : norm ? kEmbd : outputs, 1, 1, 1};
      else
        shape = {inputs, has("token_embd") || name == "output.weight" ? shape[1] : outputs, 1, 1};
      std::vector<float> values(shape[0] * shape[1]);
      for (float& x : values)
        x = norm || name == "rope_freqs.weight" ? 1.0f + 0.1f * std::fabs(normal(random))
            : vector                            ? 0.3f * normal(random)
                     : normal(random) / std::sqrt(static_cast<float>(inputs));
      const auto bytes = std::as_bytes(std::span(values));
      tensor.data.assign(bytes.begin(), bytes.end());
    }
  });
}

/// Of a prompt and, one by one, the tokens after it: recorded steps among them.
std::vector<float> logits(Transformer& model, KvType type) {
  constexpr std::size_t kPrompt = 17, kSteps = 3;
  const auto tokens = some_tokens(model, kPrompt + kSteps);
  KvCache cache(model.config(), 32, type);
  auto all = test::logits_of(model, std::span(tokens).first(kPrompt), cache, kPrompt);
  for (std::size_t i = 0; i < kSteps; ++i) {
    const auto one = test::logits_of(model, std::span(tokens).subspan(kPrompt + i, 1), cache, 1);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

}  // namespace

TEST_CASE("models of every architecture, divided, answer as the reference does") {
  for (const int devices : {1, 2, 3}) {
    const auto accelerator = test::tensor_parallel(devices);
    if (!accelerator) continue;
    for (const std::string& name : test::expectation_names()) {
      INFO(name << " on " << devices);
      const test::Expectation expected = test::read_expectation(name);
      const auto path = test::fixture_path(expected.gguf);
      const auto config = read_config(gguf::File::open(path).value());
      REQUIRE(config);
      if (config->n_kv_heads < devices) {
        const auto refused = Transformer::load(path, {.accelerator = accelerator});
        REQUIRE(!refused);
        REQUIRE(refused.error().code == ErrorCode::kUnsupported);
        continue;
      }
      test::require_reference(expected, accelerator);
    }
  }
}

TEST_CASE("wide models of every kind of block, divided, answer as one device and the CPU do") {
  const auto device = test::device();
  if (!device) return;
  const test::TempDir folder;
  const auto wide = folder / "wide.gguf", path = folder / "quantized.gguf";
  struct Case {
    const char *gguf, *recipe;
    KvType type;
    std::vector<int> devices;  ///< three: shares of different sizes
  };
  // llama3: the embedding is the output matrix, rotations have factors; mistral: a window.
  for (const Case& c : {Case{"llama3.gguf", "Q4_K_M", KvType::kF16, {2, 4}},
                        {"llama3.gguf", "Q8_0", KvType::kQ8_0, {3}},
                        {"mistral.gguf", "Q2_K", KvType::kQ8_0, {4}},
                        {"mistral.gguf", "F32", KvType::kF16, {2, 3}}}) {
    write_wide(c.gguf, wide);
    quantize(wide, path, c.recipe);
    Transformer on_cpu = load(path, nullptr);
    Transformer alone = load(path, device->accelerator());
    const auto exact = logits(on_cpu, c.type), one = logits(alone, c.type);
    for (const int devices : c.devices) {
      INFO(c.gguf << " " << c.recipe << " on " << devices);
      const auto accelerator = test::tensor_parallel(devices);
      if (!accelerator) continue;
      Transformer model = load(path, accelerator);
      const auto found = logits(model, c.type);
      CHECK(distance(found, one) < 5e-3);
      CHECK(distance(found, exact) < 5e-3);
    }
  }
}
