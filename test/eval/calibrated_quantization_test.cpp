// Quantizing the embedded model for its calibration text, measured on its test text.

#include "kquant/eval/calibrated_quantization.hpp"

#include <omp.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>

#include "kquant/eval/perplexity.hpp"
#include "kquant/eval/plan_file.hpp"
#include "kquant/eval/sensitivity.hpp"
#include "shared_data.hpp"
#include "test/model/fixture.hpp"

using namespace kquant;
using namespace kquant::test;

namespace {

gguf::File embedded() {
  auto file = gguf::File::open(source_path("examples/embedded_model/embedded.gguf"));
  REQUIRE(file);
  return std::move(*file);
}

std::string text(const char* name) {
  return read_text(source_path("examples/embedded_model/") / name);
}

double divergence(const std::filesystem::path& model) {
  auto reference = Transformer::load(source_path("examples/embedded_model/embedded.gguf"));
  auto quantized = Transformer::load(model);
  REQUIRE(reference);
  REQUIRE(quantized);
  const auto result = perplexity(*quantized, text("text_test.txt"), {.chunks = 8}, &*reference);
  REQUIRE(result);
  return result->divergence->kl.mean;
}

QuantizeReport value_of(Result<QuantizeReport> report) {
  if (!report) FAIL(report.error().message);
  return std::move(*report);
}

}  // namespace

TEST_CASE("calibrated quantization: far nearer to the model at the same bytes") {
  const TempDir folder;
  const gguf::File in = embedded();
  const auto recipe = find_recipe("Q2_K");
  const auto plain = value_of(quantize_model(in, folder / "plain.gguf", *recipe));
  const auto calibrated = value_of(quantize_calibrated(
      in, folder / "calibrated.gguf", *recipe, text("text_calibration.txt"), {}, {.chunks = 16}));
  CHECK(calibrated.file_bytes_after == plain.file_bytes_after);
  // Measured: 0.038 and 0.009.
  CHECK(divergence(folder / "calibrated.gguf") < 0.5 * divergence(folder / "plain.gguf"));

  // What has no activations is written as ever.
  const auto a = gguf::File::open(folder / "plain.gguf"),
             b = gguf::File::open(folder / "calibrated.gguf");
  REQUIRE(a);
  REQUIRE(b);
  CHECK(std::ranges::equal(a->find_tensor("token_embd.weight")->data,
                           b->find_tensor("token_embd.weight")->data));
  CHECK(!std::ranges::equal(a->find_tensor("blk.0.ffn_up.weight")->data,
                            b->find_tensor("blk.0.ffn_up.weight")->data));
}

TEST_CASE("calibrated quantization: the same bytes for any number of threads") {
  const TempDir folder;
  const gguf::File in = embedded();
  const auto calibration = text("text_calibration.txt");
  std::vector<std::vector<std::byte>> files;
  const int before = omp_get_max_threads();
  for (const int threads : {1, 3}) {
    omp_set_num_threads(threads);
    const auto path = folder / std::to_string(threads);
    value_of(quantize_calibrated(in, path, *find_recipe("Q3_K_M"), calibration,
                                 {.effort = Effort::kFast, .threads = threads}, {.chunks = 2}));
    files.push_back(read_bytes(path));
  }
  omp_set_num_threads(before);
  CHECK(files[0] == files[1]);
}

TEST_CASE("calibrated quantization: errors leave no file") {
  const TempDir folder;
  const auto out = folder / "out.gguf";
  const gguf::File in = embedded();
  const auto recipe = find_recipe("Q2_K");
  CHECK(quantize_calibrated(in, out, *recipe, "too short").error().code ==
        ErrorCode::kInvalidArgument);
  const auto interrupted = quantize_calibrated(
      in, out, *recipe, text("text_calibration.txt"),
      {.progress = [](auto, auto, const auto&) { return false; }}, {.chunks = 1});
  CHECK(interrupted.error().message == "interrupted");
  CHECK(!std::filesystem::exists(out));
}

TEST_CASE("types for a size: fit it, beat the recipe of that size, and can be used again") {
  const TempDir folder;
  const gguf::File in = embedded();
  const auto recipe = find_recipe("Q3_K_M");
  const auto fixed = value_of(quantize_model(in, folder / "recipe.gguf", *recipe));

  auto choices = measure_choices(in);
  REQUIRE(choices);
  const auto by_error = allocate(*choices, fixed.file_bytes_after);
  REQUIRE(measure_divergences(in, text("text_calibration.txt"), *choices, {.chunks = 2}));
  const auto by_divergence = allocate(*choices, fixed.file_bytes_after);
  REQUIRE(by_error);
  REQUIRE(by_divergence);
  CHECK(*by_error != *by_divergence);
  const auto mixed =
      value_of(quantize_model(in, folder / "mixed.gguf", *nearest_recipe(in, *by_divergence),
                              {.plan = {.types = *by_divergence}}));
  CHECK(mixed.file_bytes_after <= fixed.file_bytes_after);
  CHECK(static_cast<double>(mixed.file_bytes_after) >
        0.95 * static_cast<double>(fixed.file_bytes_after));
  CHECK(divergence(folder / "mixed.gguf") < 0.9 * divergence(folder / "recipe.gguf"));

  REQUIRE(write_plan(folder / "plan.json", *by_divergence, mixed.bits_per_weight_after));
  const auto read = read_plan(folder / "plan.json");
  REQUIRE(read);
  CHECK(*read == *by_divergence);
}

TEST_CASE("types for a size: bits a weight are counted as reports count them") {
  const TempDir folder;
  const gguf::File in = embedded();
  const auto choices = measure_choices(in);
  REQUIRE(choices);
  for (const double bits : {3.0, 4.5, 8.0}) {
    const auto plan = allocate(*choices, file_bytes_for(*choices, bits));
    REQUIRE(plan);
    const auto report = value_of(quantize_model(in, folder / "out.gguf", *find_recipe("Q4_K_M"),
                                                {.plan = {.types = *plan}, .dry_run = true}));
    CHECK(report.bits_per_weight_after <= bits);
    CHECK(report.bits_per_weight_after > 0.95 * bits);
  }
  CHECK(!allocate(*choices, file_bytes_for(*choices, 2.0)));
}

TEST_CASE("plan files: errors name what is wrong") {
  const TempDir folder;
  CHECK(read_plan(folder / "none.json").error().code == ErrorCode::kNotFound);
  const auto error_of = [&](const std::string& json) {
    const auto path = folder / "plan.json";
    std::ofstream(path) << json;
    return read_plan(path).error();
  };
  CHECK(error_of("{").code == ErrorCode::kBadFile);
  CHECK(error_of("[]").code == ErrorCode::kBadFile);
  CHECK(error_of(R"({"tensors": {"a": "Q9_K"}})").message.find("'a': \"Q9_K\" is no type") !=
        std::string::npos);
  CHECK(error_of(R"({"tensors": {"a": 3}})").code == ErrorCode::kBadFile);

  // Of another model.
  const gguf::File in = embedded();
  const auto other =
      quantize_model(in, folder / "out.gguf", *find_recipe("Q4_K_M"),
                     {.plan = {.types = {{"blk.99.attn_q.weight", TensorType::Q4_K}}}});
  CHECK(other.error().message.find("blk.99.attn_q.weight") != std::string::npos);
}
