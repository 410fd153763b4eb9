#include "kquant/recipe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>

namespace kquant {
namespace {

using enum TensorType;

PlannedTensor matrix(std::string name, std::uint64_t cols, std::uint64_t rows) {
  PlannedTensor tensor;
  tensor.name = std::move(name);
  tensor.source = F16;
  tensor.n_dims = 2;
  tensor.cols = cols;
  tensor.rows = rows;
  return tensor;
}

PlannedTensor vector(std::string name, std::uint64_t cols) {
  PlannedTensor tensor;
  tensor.name = std::move(name);
  tensor.source = F32;
  tensor.n_dims = 1;
  tensor.cols = cols;
  tensor.rows = 1;
  return tensor;
}

struct Sizes {
  int layers = 32, heads = 32, kv_heads = 8, experts = 0;
  std::uint64_t width = 4096, ff = 14336, vocab = 128256;
  bool tied = false, fused_qkv = false;
};

// A llama's tensors, in file order.
std::vector<PlannedTensor> llama_tensors(const Sizes& s) {
  const auto kv =
      s.width / static_cast<std::uint64_t>(s.heads) * static_cast<std::uint64_t>(s.kv_heads);
  std::vector<PlannedTensor> tensors = {matrix("token_embd.weight", s.width, s.vocab)};
  for (int layer = 0; layer < s.layers; ++layer) {
    const auto name = [&](const char* part) {
      return fmt::format("blk.{}.{}.weight", layer, part);
    };
    tensors.push_back(vector(name("attn_norm"), s.width));
    if (s.fused_qkv) {
      tensors.push_back(matrix(name("attn_qkv"), s.width, s.width + 2 * kv));
    } else {
      tensors.push_back(matrix(name("attn_q"), s.width, s.width));
      tensors.push_back(matrix(name("attn_k"), s.width, kv));
      tensors.push_back(matrix(name("attn_v"), s.width, kv));
    }
    tensors.push_back(matrix(name("attn_output"), s.width, s.width));
    tensors.push_back(vector(name("ffn_norm"), s.width));
    const char* suffix = s.experts > 0 ? "_exps" : "";
    const auto copies = static_cast<std::uint64_t>(std::max(1, s.experts));
    if (s.experts > 0) tensors.push_back(matrix(name("ffn_gate_inp"), s.width, copies));
    for (const char* part : {"ffn_gate", "ffn_up"})
      tensors.push_back(matrix(name((std::string(part) + suffix).c_str()), s.width, s.ff * copies));
    tensors.push_back(
        matrix(name((std::string("ffn_down") + suffix).c_str()), s.ff, s.width * copies));
  }
  tensors.push_back(vector("output_norm.weight", s.width));
  tensors.push_back(vector("rope_freqs.weight", 64));
  if (!s.tied) tensors.push_back(matrix("output.weight", s.width, s.vocab));
  return tensors;
}

ModelShape shape_of(const Sizes& s, std::string architecture = "llama") {
  ModelShape shape;
  shape.is_70b = is_70b_shape(architecture, s.layers, s.heads, s.kv_heads);
  shape.architecture = std::move(architecture);
  shape.n_layers = s.layers;
  shape.n_heads = s.heads;
  shape.n_kv_heads = s.kv_heads;
  shape.n_experts = s.experts;
  return shape;
}

using Types = std::map<std::string, TensorType>;

Types plan_types(const std::string& recipe, const ModelShape& model,
                 std::vector<PlannedTensor> tensors, const PlanOptions& options = {}) {
  const auto found = find_recipe(recipe);
  REQUIRE(found);
  const auto planned = plan(*found, model, options, tensors);
  INFO((planned ? "" : planned.error().message));
  REQUIRE(planned);
  Types types;
  for (const auto& tensor : tensors) types[tensor.name] = tensor.target;
  return types;
}

Types plan_llama(const std::string& recipe, const Sizes& sizes = {},
                 const PlanOptions& options = {}) {
  return plan_types(recipe, shape_of(sizes), llama_tensors(sizes), options);
}

// The layers whose `part` has this type, as "0-3,9".
std::string layers_with(const Types& types, const std::string& part, TensorType type, int layers) {
  std::string text;
  for (int i = 0, run = 0; i <= layers; ++i) {
    const auto found = types.find(fmt::format("blk.{}.{}.weight", i, part));
    if (found != types.end() && found->second == type) {
      ++run;
    } else if (run > 0) {
      text += text.empty() ? "" : ",";
      text += run == 1 ? fmt::format("{}", i - 1) : fmt::format("{}-{}", i - run, i - 1);
      run = 0;
    }
  }
  return text;
}

}  // namespace

TEST_CASE("recipes reproduce llama.cpp's sizes of Llama 3.1 8B") {
  const std::pair<const char*, double> expected[] = {
      {"Q2_K", 3.1593},   {"Q3_K_S", 3.6429}, {"Q3_K_L", 4.2979},
      {"Q4_K_S", 4.6672}, {"Q4_K_M", 4.8944}, {"Q5_K_S", 5.5704},
      {"Q5_K_M", 5.7036}, {"Q6_K", 6.5633},   {"Q8_0", 8.5008},
  };
  for (const auto& [name, bits] : expected) {
    auto tensors = llama_tensors({});
    REQUIRE(plan(*find_recipe(name), shape_of({}), {}, tensors));
    INFO(name);
    CHECK(fmt::format("{:.4f}", bits_per_weight(tensors)) == fmt::format("{:.4f}", bits));
  }
}

TEST_CASE("recipes are listed from small to large, with llama.cpp's file types") {
  double last = 0;
  for (const Recipe& recipe : recipes()) {
    auto tensors = llama_tensors({});
    REQUIRE(plan(recipe, shape_of({}), {}, tensors));
    INFO(recipe.name);
    CHECK(bits_per_weight(tensors) >= last);
    last = bits_per_weight(tensors);
    CHECK(find_recipe(recipe.name)->file_type == recipe.file_type);
  }
  CHECK(find_recipe("q4_k_m")->file_type == 15);
  CHECK(find_recipe("Q2_K_S")->needs_imatrix);
  const auto unknown = find_recipe("Q4_K_XL");
  REQUIRE(!unknown);
  CHECK(unknown.error().code == ErrorCode::kNotFound);
  CHECK(unknown.error().message.find("Q4_K_M") != std::string::npos);
}

TEST_CASE("each recipe picks its layers") {
  struct Row {
    const char *recipe, *part;
    TensorType type;
    const char* layers;
  };
  // 32 layers, 4 query heads a group. "more": an eighth at each end, every third in between.
  const char* const more = "0-3,6,9,12,15,18,21,24,27-31";
  const Row rows[] = {
      {"Q2_K", "attn_v", Q4_K, "0-31"},        {"Q2_K", "attn_output", Q3_K, "0-31"},
      {"Q2_K", "ffn_down", Q3_K, "0-31"},      {"Q2_K", "ffn_up", Q2_K, "0-31"},
      {"Q2_K_S", "attn_v", Q4_K, "0-31"},      {"Q2_K_S", "attn_output", Q2_K, "0-31"},
      {"Q2_K_S", "ffn_down", Q4_K, "0-3"},     {"Q2_K_S", "ffn_down", Q2_K, "4-31"},
      {"Q3_K_S", "attn_v", Q3_K, "0-31"},      {"Q3_K_S", "ffn_down", Q3_K, "0-31"},
      {"Q3_K_M", "attn_v", Q5_K, "0-1"},       {"Q3_K_M", "attn_v", Q4_K, "2-31"},
      {"Q3_K_M", "attn_output", Q4_K, "0-31"}, {"Q3_K_M", "ffn_down", Q5_K, "0-1"},
      {"Q3_K_M", "ffn_down", Q4_K, "2-31"},    {"Q3_K_M", "attn_q", Q3_K, "0-31"},
      {"Q3_K_L", "attn_v", Q5_K, "0-31"},      {"Q3_K_L", "attn_output", Q5_K, "0-31"},
      {"Q3_K_L", "ffn_down", Q5_K, "0-31"},    {"Q3_K_L", "attn_k", Q3_K, "0-31"},
      {"Q4_K_S", "attn_v", Q5_K, "0-3"},       {"Q4_K_S", "attn_v", Q4_K, "4-31"},
      {"Q4_K_S", "ffn_down", Q5_K, "0-3"},     {"Q4_K_S", "attn_output", Q4_K, "0-31"},
      {"Q4_K_M", "attn_v", Q6_K, more},        {"Q4_K_M", "ffn_down", Q6_K, more},
      {"Q4_K_M", "attn_output", Q4_K, "0-31"}, {"Q5_K_S", "ffn_down", Q5_K, "0-31"},
      {"Q5_K_M", "attn_v", Q6_K, more},        {"Q5_K_M", "ffn_down", Q6_K, more},
      {"Q5_K_M", "attn_k", Q5_K, "0-31"},      {"Q6_K", "ffn_down", Q6_K, "0-31"},
      {"Q8_0", "attn_v", Q8_0, "0-31"},        {"Q4_0", "ffn_down", Q4_0, "0-31"},
  };
  for (const Row& row : rows) {
    INFO(row.recipe << " " << row.part << " " << type_info(row.type).name);
    CHECK(layers_with(plan_llama(row.recipe), row.part, row.type, 32) == row.layers);
  }
}

TEST_CASE("integer division decides in models of few layers") {
  Sizes sizes;
  sizes.layers = 18;  // an eighth: 2, seven eighths: 15, a sixteenth: 1
  CHECK(layers_with(plan_llama("Q4_K_M", sizes), "ffn_down", Q6_K, 18) == "0-1,4,7,10,13,15-17");
  CHECK(layers_with(plan_llama("Q3_K_M", sizes), "ffn_down", Q5_K, 18) == "0");
  CHECK(layers_with(plan_llama("Q4_K_S", sizes), "ffn_down", Q5_K, 18) == "0-1");
  sizes.layers = 2;  // an eighth: 0, seven eighths: 1
  CHECK(layers_with(plan_llama("Q4_K_M", sizes), "attn_v", Q6_K, 2) == "1");
}

TEST_CASE("attn_v in Q2_K follows the number of query heads a group") {
  Sizes sizes;
  sizes.kv_heads = 32;
  CHECK(layers_with(plan_llama("Q2_K", sizes), "attn_v", Q3_K, 32) == "0-31");
  CHECK(layers_with(plan_llama("Q2_K_S", sizes), "attn_v", Q2_K, 32) == "0-31");
  auto shape = shape_of({});
  shape.n_kv_heads = 0;  // no division
  CHECK(layers_with(plan_types("Q2_K", shape, llama_tensors({})), "attn_v", Q3_K, 32) == "0-31");
}

TEST_CASE("norms, routers and one-dimensional tensors keep their type") {
  Sizes sizes;
  sizes.experts = 4;
  auto tensors = llama_tensors(sizes);
  for (const char* name : {"blk.0.ssm_conv1d.weight", "position_embd.weight", "token_types.weight",
                           "blk.0.attn_q_norm.weight", "blk.0.attn_q.bias", "blk.0.ssm_a"})
    tensors.push_back(matrix(name, 256, 4));
  tensors.push_back(matrix("blk.0.column.weight", 256, 1));  // llama.cpp sees one dimension
  tensors.push_back(matrix("blk.0.table.weight", 256, 4));
  tensors.back().source = I32;
  REQUIRE(plan(*find_recipe("Q4_K_S"), shape_of(sizes), {}, tensors));
  int kept = 0;
  for (const auto& tensor : tensors) {
    if (tensor.reason != "kept") continue;
    CHECK(tensor.target == tensor.source);
    ++kept;
  }
  // Two norms and a router a layer, output_norm, rope_freqs, the eight above.
  CHECK(kept == 32 * 3 + 2 + 8);
}

TEST_CASE("output and token embedding") {
  Sizes tied;
  tied.tied = true;
  for (const char* recipe : {"Q2_K", "Q4_K_M", "Q6_K", "Q4_0"}) {
    const TensorType base = find_recipe(recipe)->base;
    CHECK(plan_llama(recipe).at("output.weight") == Q6_K);
    CHECK(plan_llama(recipe).at("token_embd.weight") == base);
    CHECK(plan_llama(recipe, tied).at("token_embd.weight") == Q6_K);
  }
  CHECK(plan_llama("Q8_0").at("output.weight") == Q8_0);
  CHECK(plan_llama("Q8_0", tied).at("token_embd.weight") == Q8_0);
  CHECK(plan_types("Q4_K_M", shape_of({}, "falcon"), llama_tensors({})).at("output.weight") ==
        Q8_0);

  Sizes narrow;
  narrow.width = 4096 + 64;
  CHECK(plan_llama("Q4_K_M", narrow).at("output.weight") == Q8_0);
  CHECK(plan_llama("Q4_0", narrow).at("output.weight") == Q8_0);  // Q6_K does not fit
}

TEST_CASE("70B models give attn_v five bits") {
  Sizes sizes;
  sizes.layers = 80;
  sizes.heads = 64;
  const auto types = plan_llama("Q4_K_M", sizes);
  CHECK(layers_with(types, "attn_v", Q4_K, 80).empty());
  CHECK(layers_with(types, "attn_v", Q5_K, 80).starts_with("10-11,13-14,16-17"));
  CHECK(layers_with(types, "attn_v", Q6_K, 80).starts_with("0-9,12,15"));
  CHECK(layers_with(plan_llama("Q3_K_S", sizes), "attn_v", Q5_K, 80) == "0-79");
  CHECK(layers_with(plan_llama("Q5_K_S", sizes), "attn_v", Q5_K, 80) == "0-79");
  CHECK_FALSE(is_70b_shape("llama", 80, 64, 64));  // the 65B model
  CHECK(is_70b_shape("qwen2", 80, 64, 8));
}

TEST_CASE("mixtures of 8 experts") {
  Sizes sizes;
  sizes.experts = 8;
  for (const Recipe& recipe : recipes()) {
    if (type_info(recipe.base).support == Support::kPlain) continue;
    const std::string name(recipe.name);
    INFO(name);
    const auto types = plan_llama(name, sizes);
    CHECK(layers_with(types, "attn_v", Q8_0, 32) == "0-31");
    CHECK(layers_with(types, "attn_k", Q8_0, 32) == "0-31");
    const bool five_bits = name == "Q2_K" || name == "Q3_K_S" || name == "Q3_K_M" ||
                           name == "Q4_K_S" || name == "Q4_K_M";
    CHECK(layers_with(types, "attn_output", five_bits ? Q5_K : recipe.base, 32) == "0-31");
    CHECK(types.at("blk.3.ffn_gate_inp.weight") == F16);
  }
  sizes.experts = 16;
  CHECK(layers_with(plan_llama("Q4_K_S", sizes), "attn_k", Q4_K, 32) == "0-31");
}

TEST_CASE("expert tensors take the layer from their name") {
  Sizes sizes;
  sizes.experts = 64;
  auto tensors = llama_tensors(sizes);
  for (int layer = 0; layer < 32; ++layer)  // two ffn_down a layer
    tensors.push_back(matrix(fmt::format("blk.{}.ffn_down_shexp.weight", layer), 4096, 4096));
  const auto types = plan_types("Q4_K_M", shape_of(sizes), tensors);
  const std::string more = "0-3,6,9,12,15,18,21,24,27-31";
  CHECK(layers_with(types, "ffn_down_exps", Q6_K, 32) == more);
  CHECK(layers_with(types, "ffn_down_shexp", Q6_K, 32) == more);

  tensors.push_back(matrix("blk.32.ffn_down_exps.weight", 4096, 4096));
  const auto bad = plan(*find_recipe("Q4_K_M"), shape_of(sizes), {}, tensors);
  REQUIRE(!bad);
  CHECK(bad.error().message.find("blk.32.ffn_down_exps.weight") != std::string::npos);
}

TEST_CASE("layers count by number, whatever the order in the file") {
  auto tensors = llama_tensors({});
  const auto expected = plan_types("Q4_K_M", shape_of({}), tensors);
  std::ranges::sort(tensors, {}, &PlannedTensor::name);  // 0, 1, 10, 11, …
  CHECK(plan_types("Q4_K_M", shape_of({}), tensors) == expected);
  std::ranges::reverse(tensors);
  CHECK(plan_types("Q4_K_M", shape_of({}), tensors) == expected);
}

TEST_CASE("a fused attn_qkv is attn_v now, and had a rule of its own") {
  Sizes sizes;
  sizes.fused_qkv = true;
  PlanOptions old;
  old.version = RecipeVersion::kFusedQkvRule;
  const std::pair<const char*, TensorType> rules[] = {
      {"Q2_K", Q2_K},   {"Q3_K_S", Q3_K}, {"Q3_K_M", Q4_K}, {"Q3_K_L", Q4_K}, {"Q4_K_S", Q4_K},
      {"Q4_K_M", Q5_K}, {"Q5_K_S", Q5_K}, {"Q5_K_M", Q6_K}, {"Q6_K", Q6_K}};
  for (const auto& [recipe, type] : rules) {
    INFO(recipe);
    CHECK(layers_with(plan_llama(recipe, sizes, old), "attn_qkv", type, 32) == "0-31");
  }
  CHECK(layers_with(plan_llama("Q4_K_M", sizes), "attn_qkv", Q6_K, 32) ==
        "0-3,6,9,12,15,18,21,24,27-31");
  CHECK(layers_with(plan_llama("Q2_K", sizes), "attn_qkv", Q4_K, 32) == "0-31");
}

TEST_CASE("shapes that do not fit fall back to smaller blocks") {
  const auto fallback = [](const std::string& recipe, std::uint64_t cols) {
    std::vector<PlannedTensor> tensors = {matrix("blk.0.ffn_up.weight", cols, 8)};
    REQUIRE(plan(*find_recipe(recipe), shape_of({}), {}, tensors));
    if (cols % 256 == 0)
      CHECK(tensors[0].reason == "base");
    else
      CHECK(tensors[0].reason.starts_with("base, not divisible by "));
    return tensors[0].target;
  };
  CHECK(fallback("Q4_K_S", 512) == Q4_K);
  CHECK(fallback("Q2_K", 96) == Q4_0);
  CHECK(fallback("Q3_K_S", 96) == Q4_0);
  CHECK(fallback("Q4_K_S", 96) == Q5_0);
  CHECK(fallback("Q5_K_S", 96) == Q5_1);
  CHECK(fallback("Q6_K", 96) == Q8_0);
  for (const char* recipe : {"Q2_K", "Q4_K_S", "Q6_K", "Q8_0", "Q4_0", "Q5_1"})
    CHECK(fallback(recipe, 100) == F16);
  CHECK(plan_types("Q8_0", shape_of({}), {matrix("a.weight", 96, 2)}).at("a.weight") == Q8_0);
}

TEST_CASE("overrides come before the recipe, flags before overrides") {
  PlanOptions options;
  options.overrides = {{"blk\\.0\\.attn_v", Q8_0}, {"attn_v", Q4_K}, {"^output", Q4_K}};
  auto types = plan_llama("Q4_K_M", {}, options);
  CHECK(types.at("blk.0.attn_v.weight") == Q8_0);
  CHECK(types.at("output.weight") == Q4_K);
  // Equal to the base type, and still an override of the recipe's Q6_K.
  CHECK(layers_with(types, "attn_v", Q4_K, 32) == "1-31");

  options.output_type = Q5_K;
  options.token_embedding_type = Q8_0;
  options.overrides.push_back({"token_embd", Q2_K});
  types = plan_llama("Q4_K_M", {}, options);
  CHECK(types.at("output.weight") == Q5_K);
  CHECK(types.at("token_embd.weight") == Q8_0);

  Sizes tied;
  tied.tied = true;
  PlanOptions output_only;
  output_only.output_type = Q5_K;
  CHECK(plan_llama("Q4_K_M", tied, output_only).at("token_embd.weight") == Q5_K);

  PlanOptions pure;
  pure.pure = true;
  for (const auto& [name, type] : plan_llama("Q4_K_M", {}, pure))
    CHECK(((type == Q4_K) != (type == F32)));
  pure.overrides = {{"attn_k", Q6_K}};
  CHECK(plan_llama("Q4_K_M", {}, pure).at("blk.7.attn_k.weight") == Q6_K);

  // What an override decides does not count as one of the role's tensors.
  PlanOptions first;
  first.overrides = {{"blk\\.[01]\\.attn_v", Q8_0}};
  CHECK(layers_with(plan_llama("Q4_K_S", {}, first), "attn_v", Q5_K, 32) == "2-5");

  // The shape has the last word.
  PlanOptions misfit;
  misfit.overrides = {{"odd", Q6_K}};
  misfit.token_embedding_type = Q4_K;
  const auto fitted =
      plan_types("Q4_K_M", shape_of({}),
                 {matrix("odd.weight", 96, 2), matrix("token_embd.weight", 32, 4)}, misfit);
  CHECK(fitted.at("odd.weight") == Q8_0);
  CHECK(fitted.at("token_embd.weight") == Q5_0);
}

TEST_CASE("overrides are parsed and checked") {
  const auto good = parse_override("attn_(q|k)=q6_k");
  REQUIRE(good);
  CHECK(good->pattern == "attn_(q|k)");
  CHECK(good->type == Q6_K);
  CHECK(parse_override("a(?=b)c=F16")->pattern == "a(?=b)c");
  for (const char* text : {"", "=Q4_K", "attn_v", "attn_v=", "attn_v=Q9_K", "attn_v=IQ2_S",
                           "attn_v=Q8_K", "attn_v=I32", "attn_(=Q4_K", "[=Q4_K"}) {
    INFO(text);
    const auto bad = parse_override(text);
    REQUIRE(!bad);
    CHECK(bad.error().code == ErrorCode::kInvalidArgument);
  }
  std::vector<PlannedTensor> tensors = {matrix("a.weight", 256, 2)};
  PlanOptions options;
  options.overrides = {{"(", Q4_K}};
  CHECK(!plan(*find_recipe("Q4_K_M"), shape_of({}), options, tensors));
  options.overrides = {{"a", IQ2_S}};
  CHECK(!plan(*find_recipe("Q4_K_M"), shape_of({}), options, tensors));
}

TEST_CASE("plain conversions touch weights alone") {
  for (const auto& [recipe, type] :
       {std::pair("F32", F32), std::pair("F16", F16), std::pair("BF16", BF16)}) {
    auto tensors = llama_tensors({});
    REQUIRE(plan(*find_recipe(recipe), shape_of({}), {}, tensors));
    for (const auto& tensor : tensors) CHECK(tensor.target == (tensor.n_dims == 2 ? type : F32));
  }
}

TEST_CASE("Q4_0 and Q5_0 guard the first ffn_down with an imatrix") {
  PlanOptions options;
  options.has_imatrix = true;
  CHECK(layers_with(plan_llama("Q4_0", {}, options), "ffn_down", Q4_1, 32) == "0-3");
  CHECK(layers_with(plan_llama("Q5_0", {}, options), "ffn_down", Q5_1, 32) == "0-3");
  CHECK(layers_with(plan_llama("Q4_1", {}, options), "ffn_down", Q4_1, 32) == "0-31");
}

TEST_CASE("Falcon's exceptions") {
  const auto types = [](const char* recipe) {
    return plan_types(recipe, shape_of({}, "falcon"), llama_tensors({}));
  };
  const std::string third = "6,9,12,15,18,21,24";
  CHECK(layers_with(types("Q4_K_M"), "ffn_down", Q6_K, 32) == "0-1");
  CHECK(layers_with(types("Q4_K_M"), "ffn_down", Q5_K, 32) == "2-3," + third + ",27-31");
  CHECK(layers_with(types("Q3_K_M"), "ffn_down", Q4_K, 32) == "2-3," + third + ",27-31");
  CHECK(layers_with(types("Q4_K_S"), "ffn_down", Q4_K, 32) == "0-31");
  CHECK(layers_with(types("Q3_K_L"), "attn_output", Q4_K, 32) == "0-31");
  CHECK(layers_with(types("Q2_K"), "attn_output", Q2_K, 32) == "0-31");
}

TEST_CASE("Q2_K_S needs an imatrix for its two-bit tensors") {
  const Recipe recipe = *find_recipe("Q2_K_S");
  auto tensors = llama_tensors({});
  REQUIRE(plan(recipe, shape_of({}), {}, tensors));
  for (const auto& tensor : tensors)
    CHECK(needs_imatrix(recipe, tensor) ==
          (tensor.target == Q2_K && tensor.name != "token_embd.weight"));
}

}  // namespace kquant
