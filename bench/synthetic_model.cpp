// Writes a model with the shape of a real one and random weights, for benchmarks: speed depends on
// shapes and types, and a model of 8B parameters does not fit a repository. llama.cpp reads it too.
//
//     synthetic_model --shape 8b --recipe Q4_K_M [--vocabulary tokenizer.gguf] -o 8b-q4_k_m.gguf
//
// The vocabulary is that of another GGUF file (a SentencePiece one), or of bytes alone, filled up
// with unused tokens to the size that the shape has.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <random>

#include "give_up.hpp"
#include "kquant/format/info.hpp"
#include "kquant/gguf.hpp"
#include "kquant/quantize.hpp"
#include "kquant/recipe.hpp"

namespace {

using namespace kquant;
using bench::check;
using bench::value_of;

struct Shape {
  const char* name;
  int n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff;
  bool tied;  ///< the embedding is the output matrix
};

constexpr std::uint64_t kVocabulary = 128256;
const std::map<std::string, Shape> kShapes{
    {"tiny", {"synthetic tiny", 2, 256, 4, 2, 64, 512, true}},
    {"1b", {"synthetic 1B (Llama 3.2)", 16, 2048, 32, 8, 64, 8192, true}},
    {"8b", {"synthetic 8B (Llama 3.1)", 32, 4096, 32, 8, 128, 14336, false}}};

/// Matrices first by what a recipe sees; norms (one dimension) stay F32.
std::vector<PlannedTensor> tensors_of(const Shape& s) {
  std::vector<PlannedTensor> tensors;
  const auto add = [&](std::string name, int cols, std::uint64_t rows) {
    const int n_dims = rows == 0 ? 1 : 2;
    tensors.push_back({.name = std::move(name),
                       .source = TensorType::F32,
                       .n_dims = n_dims,
                       .cols = static_cast<std::uint64_t>(cols),
                       .rows = std::max<std::uint64_t>(rows, 1),
                       .target = TensorType::F32,
                       .reason = {}});
  };
  const auto rows = [](int n) { return static_cast<std::uint64_t>(n); };
  add("token_embd.weight", s.n_embd, kVocabulary);
  if (!s.tied) add("output.weight", s.n_embd, kVocabulary);
  add("output_norm.weight", s.n_embd, 0);
  for (int i = 0; i < s.n_layers; ++i) {
    const auto layer = [&](const char* name) { return fmt::format("blk.{}.{}.weight", i, name); };
    add(layer("attn_norm"), s.n_embd, 0);
    add(layer("attn_q"), s.n_embd, rows(s.n_heads * s.head_dim));
    add(layer("attn_k"), s.n_embd, rows(s.n_kv_heads * s.head_dim));
    add(layer("attn_v"), s.n_embd, rows(s.n_kv_heads * s.head_dim));
    add(layer("attn_output"), s.n_heads * s.head_dim, rows(s.n_embd));
    add(layer("ffn_norm"), s.n_embd, 0);
    add(layer("ffn_gate"), s.n_embd, rows(s.n_ff));
    add(layer("ffn_up"), s.n_embd, rows(s.n_ff));
    add(layer("ffn_down"), s.n_ff, rows(s.n_embd));
  }
  return tensors;
}

/// As SentencePiece has it; the first three tokens are unknown, begin and end of text.
struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> types;

  void add(std::string token, float score, std::int32_t type) {
    tokens.push_back(std::move(token));
    scores.push_back(score);
    types.push_back(type);
  }
  /// The least that encodes every text.
  static Vocabulary of_bytes() {
    constexpr std::int32_t kUnknown = 2, kControl = 3, kByte = 6;
    Vocabulary v;
    v.add("<unk>", 0, kUnknown);
    v.add("<s>", 0, kControl);
    v.add("</s>", 0, kControl);
    for (int byte = 0; byte < 256; ++byte) v.add(fmt::format("<0x{:02X}>", byte), 0, kByte);
    return v;
  }
  static Vocabulary of_file(const gguf::File& file) {
    Vocabulary v;
    for (const auto text : value_of(file.get_strings("tokenizer.ggml.tokens")))
      v.tokens.emplace_back(text);
    v.scores = value_of(file.get_floats("tokenizer.ggml.scores"));
    for (const auto type : value_of(file.get_ints("tokenizer.ggml.token_type")))
      v.types.push_back(static_cast<std::int32_t>(type));
    if (v.tokens.size() > kVocabulary)
      bench::give_up(fmt::format("{}: {} tokens, at most {} fit", file.path().string(),
                                 v.tokens.size(), kVocabulary));
    return v;
  }
  void fill_up() {
    constexpr std::int32_t kUnused = 5;
    while (tokens.size() < kVocabulary)
      add(fmt::format("<unused_{}>", tokens.size()), -1e6f, kUnused);
  }
};

gguf::Metadata metadata_of(const Shape& s, const Recipe& recipe, const Vocabulary& vocabulary) {
  gguf::Metadata m;
  const auto count = [](int n) { return static_cast<std::uint32_t>(n); };
  m.set_string("general.architecture", "llama");
  m.set_string("general.name", s.name);
  m.set_u32("general.file_type", recipe.file_type);
  m.set_u32("general.quantization_version", 2);
  m.set_u32("llama.block_count", count(s.n_layers));
  m.set_u32("llama.context_length", 131072);
  m.set_u32("llama.embedding_length", count(s.n_embd));
  m.set_u32("llama.feed_forward_length", count(s.n_ff));
  m.set_u32("llama.attention.head_count", count(s.n_heads));
  m.set_u32("llama.attention.head_count_kv", count(s.n_kv_heads));
  m.set_u32("llama.rope.dimension_count", count(s.head_dim));
  m.set_f32("llama.rope.freq_base", 500000.0f);
  m.set_f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  m.set_u32("llama.vocab_size", static_cast<std::uint32_t>(kVocabulary));

  m.set_string("tokenizer.ggml.model", "llama");
  m.set_strings("tokenizer.ggml.tokens", vocabulary.tokens);
  m.set_floats("tokenizer.ggml.scores", vocabulary.scores);
  m.set_ints("tokenizer.ggml.token_type", vocabulary.types);
  m.set_u32("tokenizer.ggml.bos_token_id", 1);
  m.set_u32("tokenizer.ggml.eos_token_id", 2);
  return m;
}

/// Gaussian weights, quantized; blocks of them in any order are a matrix as good as another.
class Blocks {
 public:
  explicit Blocks(TensorType type) : type_(type) {
    std::vector<float> weights(kRows * kCols);
    std::mt19937 random(static_cast<std::uint32_t>(type));
    std::normal_distribution<float> normal(0.0f, 0.02f);
    for (float& w : weights) w = normal(random);
    packed_.resize(kRows * row_bytes(type, kCols));
    check(quantize(type, {weights.data(), kRows, kCols}, packed_));
  }

  /// `count` weights, blocks drawn at random.
  std::vector<std::byte> draw(std::size_t count, std::mt19937& random) const {
    const std::size_t bytes = type_info(type_).block_bytes;
    const std::size_t n_blocks = packed_.size() / bytes;
    std::vector<std::byte> out(row_bytes(type_, count));
    for (std::size_t at = 0; at < out.size(); at += bytes)
      std::copy_n(packed_.data() + random() % n_blocks * bytes, bytes, out.data() + at);
    return out;
  }

 private:
  static constexpr std::size_t kRows = 256, kCols = 4096;
  TensorType type_;
  std::vector<std::byte> packed_;
};

void write(const std::string& path, const Shape& shape, const Recipe& recipe,
           const Vocabulary& vocabulary) {
  std::vector<PlannedTensor> tensors = tensors_of(shape);
  const ModelShape model{.architecture = "llama",
                         .n_layers = shape.n_layers,
                         .n_heads = shape.n_heads,
                         .n_kv_heads = shape.n_kv_heads};
  check(plan(recipe, model, {}, tensors));
  std::vector<gguf::TensorSpec> specs;
  for (const PlannedTensor& t : tensors)
    specs.push_back({t.name, t.target, t.n_dims, {t.cols, t.rows, 1, 1}});

  auto writer = value_of(
      gguf::Writer::create(path, metadata_of(shape, recipe, vocabulary), std::move(specs)));
  std::map<TensorType, Blocks> blocks;
  std::mt19937 random(1);
  for (const PlannedTensor& t : tensors) {
    if (t.n_dims == 1) {
      const std::vector<float> ones(t.cols, 1.0f);
      check(writer.append(std::as_bytes(std::span(ones))));
      continue;
    }
    const Blocks& of_type = blocks.try_emplace(t.target, t.target).first->second;
    constexpr std::uint64_t kRowsAtOnce = 1024;
    for (std::uint64_t row = 0; row < t.rows; row += kRowsAtOnce)
      check(writer.append(of_type.draw(std::min(kRowsAtOnce, t.rows - row) * t.cols, random)));
  }
  check(writer.finish());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Writes a model with the shape of a real one and random weights"};
  std::string shape = "1b", recipe = "Q4_K_M", vocabulary, out;
  app.add_option("--shape", shape, "tiny, 1b (Llama 3.2) or 8b (Llama 3.1)")
      ->check(CLI::IsMember(kShapes))
      ->capture_default_str();
  app.add_option("--recipe", recipe, "Which tensor gets which type")->capture_default_str();
  app.add_option("--vocabulary", vocabulary,
                 "GGUF file with a SentencePiece vocabulary; without it, of bytes alone");
  app.add_option("-o,--output", out, "GGUF file to write")->required();
  CLI11_PARSE(app, argc, argv);
  Vocabulary tokens = vocabulary.empty()
                          ? Vocabulary::of_bytes()
                          : Vocabulary::of_file(value_of(gguf::File::open(vocabulary)));
  tokens.fill_up();
  write(out, kShapes.at(shape), value_of(find_recipe(recipe)), tokens);
  return 0;
}
