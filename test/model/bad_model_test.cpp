// Models whose hyper-parameters or tensors do not fit: each is refused with an error that names the
// key or tensor, what was found and what was expected.

#include <catch2/catch.hpp>
#include <limits>
#include <optional>

#include "shared_data.hpp"
#include "test/model/fixture.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

using Change = std::function<void(Model&)>;

struct Case {
  std::string name, gguf;
  Change change;
  ErrorCode code;
  std::string message;  ///< part of it
};

Change u32(std::string key, std::uint32_t value) {
  return [=](Model& model) { model.metadata.set_u32(key, value); };
}
Change f32(std::string key, float value) {
  return [=](Model& model) { model.metadata.set_f32(key, value); };
}
Change text(std::string key, std::string value) {
  return [=](Model& model) { model.metadata.set_string(key, value); };
}
Change without_key(std::string key) {
  return [=](Model& model) { REQUIRE(model.metadata.erase(key)); };
}
Change without_tensor(std::string name) {
  return [=](Model& model) { model.erase(name); };
}
Change one_row_less(std::string name) {
  return [=](Model& model) {
    Model::Tensor& tensor = model.tensor(name);
    const std::size_t rows = tensor.spec.shape[1];
    tensor.data.resize(tensor.data.size() / rows * (rows - 1));
    tensor.spec.shape[1] = rows - 1;
  };
}
Change one_less(std::string name) {
  return [=](Model& model) {
    Model::Tensor& tensor = model.tensor(name);
    tensor.spec.shape[0] -= 1;
    tensor.data.resize(tensor.data.size() - 4);
  };
}
Change first_value(std::string name, float value) {
  return [=](Model& model) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    std::copy(bytes.begin(), bytes.end(), model.tensor(name).data.begin());
  };
}
Change extra_tensor(std::string name) {
  return [=](Model& model) {
    Model::Tensor tensor = model.tensor("output_norm.weight");
    tensor.spec.name = name;
    model.tensors.push_back(tensor);
  };
}

constexpr auto kBad = ErrorCode::kBadFile;
constexpr auto kUnsupported = ErrorCode::kUnsupported;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const std::vector<Case> kCases = {
    {"unknown architecture", "llama2", text("general.architecture", "mamba"), kUnsupported,
     "'mamba' is not supported, only llama, qwen2, qwen3, gemma2, gemma3, phi3"},
    {"no architecture", "llama2", without_key("general.architecture"), ErrorCode::kNotFound,
     "general.architecture"},
    {"experts", "llama2", u32("llama.expert_count", 8), kUnsupported, "mixture of experts"},
    {"no layers", "llama2", u32("llama.block_count", 0), kBad,
     "'llama.block_count': found 0, expected an integer from 1 to 1024"},
    {"many layers", "llama2", u32("llama.block_count", 0xffffffffu), kBad, "4294967295"},
    {"one layer too many", "llama2", u32("llama.block_count", 3), kBad,
     "'blk.2.attn_norm.weight': missing"},
    {"one layer too few", "llama2", u32("llama.block_count", 1), kUnsupported,
     "'blk.1.attn_q.weight': not a tensor of architecture 'llama'"},
    {"layers as text", "llama2", text("llama.block_count", "2"), kBad, "found string"},
    {"no block_count", "llama2", without_key("llama.block_count"), kBad, "found nothing"},
    {"no context", "llama2", u32("llama.context_length", 0), kBad, "'llama.context_length'"},
    {"no width", "llama2", u32("llama.embedding_length", 0), kBad, "'llama.embedding_length'"},
    {"huge width", "llama2", u32("llama.embedding_length", 1u << 31), kBad, "2147483648"},
    {"other width", "llama2", u32("llama.embedding_length", 96), kBad,
     "'token_embd.weight': found 128 x 48, expected 128 x 96"},
    {"no heads", "llama2", u32("llama.attention.head_count", 0), kBad, "head_count': found 0"},
    {"heads do not divide", "llama2", u32("llama.attention.head_count", 5), kBad,
     "expected a divisor of attention.head_count, 5"},
    {"no KV heads", "llama2", u32("llama.attention.head_count_kv", 0), kBad, "head_count_kv"},
    {"KV heads do not divide", "llama2", u32("llama.attention.head_count_kv", 2), kBad,
     "head_count_kv': found 2, expected a divisor of attention.head_count, 3"},
    {"more KV heads", "llama3", u32("llama.attention.head_count_kv", 4), kBad,
     "'blk.0.attn_k.weight': found 32 x 64, expected 64 x 64"},
    {"no head size", "qwen3", u32("qwen3.attention.key_length", 0), kBad, "key_length': found 0"},
    {"other head size", "qwen3", u32("qwen3.attention.value_length", 8), kBad,
     "'blk.0.attn_v.weight': found 32 x 32, expected 16 x 32"},
    {"wide rope", "llama2", u32("llama.rope.dimension_count", 18), kBad,
     "dimension_count': found 18, expected an integer from 2 to 16"},
    {"no rope", "llama2", u32("llama.rope.dimension_count", 0), kBad, "dimension_count': found 0"},
    {"odd rope", "llama2", u32("llama.rope.dimension_count", 15), kBad, "an even number"},
    {"rope base", "llama2", f32("llama.rope.freq_base", 0.0f), kBad, "freq_base': found 0"},
    {"rope base NaN", "llama2", f32("llama.rope.freq_base", kNan), kBad, "freq_base': found nan"},
    {"rope scaling", "llama2", text("llama.rope.scaling.type", "su"), kUnsupported,
     "found 'su', expected none, linear, yarn or longrope"},
    {"rope factor", "llama_yarn", f32("llama.rope.scaling.factor", -4.0f), kBad,
     "scaling.factor': found -4"},
    {"rope frequencies", "llama3", first_value("rope_freqs.weight", 0.0f), kBad,
     "'rope_freqs.weight': found factor 0"},
    {"rope frequencies NaN", "llama3", first_value("rope_freqs.weight", kNan), kBad, "factor nan"},
    {"few rope frequencies", "llama3", one_less("rope_freqs.weight"), kBad,
     "'rope_freqs.weight': found 1 x 7, expected 1 x 8"},
    {"eps", "llama2", f32("llama.attention.layer_norm_rms_epsilon", -1.0f), kBad, "rms_epsilon"},
    {"soft cap", "gemma2", f32("gemma2.attn_logit_softcapping", kNan), kBad, "softcapping"},
    {"window", "gemma3", text("gemma3.attention.sliding_window", "8"), kBad, "sliding_window"},
    {"window pattern", "gemma3",
     [](Model& model) {
       const std::vector<std::int32_t> flags{1, 0};
       model.metadata.set_ints("gemma3.attention.sliding_window_pattern", flags);
     },
     kBad, "found 2 elements of type i32, expected a bool for each of 7 layers"},
    {"no embedding", "llama2", without_tensor("token_embd.weight"), kBad,
     "'token_embd.weight' is missing"},
    {"small embedding", "llama2", one_row_less("token_embd.weight"), kBad,
     "'token_embd.weight': found 127 rows, expected 128"},
    {"small output", "llama2", one_row_less("output.weight"), kBad,
     "'output.weight': found 127 x 48, expected 128 x 48"},
    {"no output norm", "llama2", without_tensor("output_norm.weight"), kBad,
     "'output_norm.weight'"},
    {"small norm", "llama2", one_less("blk.1.ffn_norm.weight"), kBad,
     "'blk.1.ffn_norm.weight': found 1 x 47, expected 1 x 48"},
    {"no down", "llama2", without_tensor("blk.1.ffn_down.weight"), kBad, "'blk.1.ffn_down.weight'"},
    {"small down", "llama2", one_row_less("blk.1.ffn_down.weight"), kBad, "found 47 x 80"},
    {"no bias", "qwen2", without_tensor("blk.0.attn_k.bias"), kBad, "'blk.0.attn_k.bias': missing"},
    {"no head norm", "qwen3", without_tensor("blk.1.attn_q_norm.weight"), kBad, "attn_q_norm"},
    {"no post-norm", "gemma3", without_tensor("blk.1.post_ffw_norm.weight"), kBad, "post_ffw_norm"},
    {"no fused matrix", "phi3", without_tensor("blk.1.attn_qkv.weight"), kBad, "attn_qkv"},
    {"small fused matrix", "phi3", one_row_less("blk.1.ffn_up.weight"), kBad, "127 x 32"},
    {"unknown tensor", "llama2", extra_tensor("blk.0.attn_q_norm.weight"), kUnsupported,
     "'blk.0.attn_q_norm.weight': not a tensor of architecture 'llama'"},
    {"integers as weights", "llama2",
     [](Model& model) { model.tensor("blk.0.attn_q.weight").spec.type = TensorType::I32; },
     kUnsupported, "'blk.0.attn_q.weight': cannot compute with type I32"},
};

}  // namespace

TEST_CASE("a model that does not fit its hyper-parameters is refused") {
  const TempDir dir;
  for (const Case& bad : kCases) {
    const auto path = dir / "bad.gguf";
    write_changed(bad.gguf + ".gguf", path, bad.change);
    const auto model = Transformer::load(path);
    INFO(bad.name);
    REQUIRE_FALSE(model);
    INFO(model.error().message);
    CHECK(model.error().code == bad.code);
    CHECK(model.error().message.find(bad.message) != std::string::npos);
    CHECK(model.error().message.find("bad.gguf") != std::string::npos);
  }
}

TEST_CASE("an unchanged copy is accepted, and so are optional keys left out") {
  const TempDir dir;
  const auto config_of = [&](const std::string& gguf, const Change& change) {
    write_changed(gguf, dir / "good.gguf", change);
    const auto file = gguf::File::open(dir / "good.gguf");
    REQUIRE(file);
    const auto config = read_config(*file);
    REQUIRE(config);
    return *config;
  };
  CHECK(config_of("gemma2.gguf", [](Model&) {}).attention_soft_cap == 2.0f);
  const Config gemma2 = config_of("gemma2.gguf", [](Model& model) {
    for (const std::string key : {"attn_logit_softcapping", "attention.sliding_window"})
      REQUIRE(model.metadata.erase("gemma2." + key));
  });
  CHECK(gemma2.attention_soft_cap == 50.0f);
  CHECK(gemma2.sliding_window == 4096);
  CHECK(gemma2.layer_is_local == std::vector<bool>{true, false, true, false});
  const Config llama = config_of("llama2.gguf", without_key("llama.attention.head_count_kv"));
  CHECK(llama.n_kv_heads == llama.n_heads);
}
