#include "kquant/quantize_model.hpp"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>

#include "shared_data.hpp"

namespace kquant {
namespace {

using enum TensorType;
using test::TempDir;

struct TinyTensor {
  std::string name;
  std::array<std::uint64_t, 4> shape{1, 1, 1, 1};
  TensorType type = F32;
  std::vector<std::byte> data;

  std::uint64_t size() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
  int n_dims() const { return shape[2] > 1 ? 3 : shape[1] > 1 ? 2 : 1; }
  float* floats() { return reinterpret_cast<float*>(data.data()); }
};

std::vector<std::byte> random_floats(std::uint64_t count, std::mt19937& random) {
  std::normal_distribution<float> normal(0, 0.05f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

// A llama of 4 layers, 512 wide, with a column count that is no multiple of 256 in one tensor.
class TinyModel {
 public:
  TinyModel() {
    metadata.set_string("general.architecture", "llama");
    metadata.set_string("general.name", "tiny");
    metadata.set_u32("llama.block_count", 4);
    metadata.set_u32("llama.attention.head_count", 8);
    metadata.set_u32("llama.attention.head_count_kv", 2);
    metadata.set_string("made.up.key", "kept");
    add("token_embd.weight", {512, 8});
    for (int layer = 0; layer < 4; ++layer) {
      const auto name = [&](const char* part) {
        return fmt::format("blk.{}.{}.weight", layer, part);
      };
      add(name("attn_norm"), {512});
      for (const char* part : {"attn_q", "attn_output"}) add(name(part), {512, 8});
      for (const char* part : {"attn_k", "attn_v"}) add(name(part), {512, 2});
      add(name("ffn_up"), {512, 80});
      add(name("ffn_down"), {96, 8});
    }
    add("output_norm.weight", {512});
    add("output.weight", {512, 8});
  }

  TinyTensor& add(const std::string& name, std::array<std::uint64_t, 4> shape) {
    for (auto& size : shape) size = std::max<std::uint64_t>(size, 1);
    TinyTensor tensor{name, shape, F32, {}};
    tensor.data = random_floats(tensor.size(), random_);
    tensors.push_back(std::move(tensor));
    return tensors.back();
  }
  TinyTensor& at(const std::string& name) {
    return *std::ranges::find(tensors, name, &TinyTensor::name);
  }

  /// Tensors [first, last).
  void write(const std::filesystem::path& path, std::size_t first = 0,
             std::size_t last = 1000) const {
    last = std::min(last, tensors.size());
    std::vector<gguf::TensorSpec> specs;
    for (std::size_t i = first; i < last; ++i)
      specs.push_back({tensors[i].name, tensors[i].type, tensors[i].n_dims(), tensors[i].shape});
    auto writer = gguf::Writer::create(path, metadata, specs);
    INFO((writer ? "" : writer.error().message));
    REQUIRE(writer);
    for (std::size_t i = first; i < last; ++i) REQUIRE(writer->append(tensors[i].data));
    REQUIRE(writer->finish());
  }

  gguf::Metadata metadata;
  std::vector<TinyTensor> tensors;

 private:
  std::mt19937 random_{7};
};

gguf::File open(const std::filesystem::path& path) {
  auto file = gguf::File::open(path);
  INFO((file ? "" : file.error().message));
  REQUIRE(file);
  return std::move(*file);
}

QuantizeReport run(const std::filesystem::path& in, const std::filesystem::path& out,
                   const char* recipe, const QuantizeModelOptions& options = {}) {
  auto report = quantize_model(open(in), out, *find_recipe(recipe), options);
  INFO((report ? "" : report.error().message));
  REQUIRE(report);
  return std::move(*report);
}

Error fail_to_run(const std::filesystem::path& in, const std::filesystem::path& out,
                  const char* recipe, const QuantizeModelOptions& options = {}) {
  const auto report = quantize_model(open(in), out, *find_recipe(recipe), options);
  REQUIRE(!report);
  CHECK(!std::filesystem::exists(out));
  return report.error();
}

bool mentions(const Error& error, const std::string& text) {
  INFO(error.message);
  return error.message.find(text) != std::string::npos;
}

std::size_t files_in(const TempDir& dir) {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator(dir.path()), {}));
}

/// One importance a column for every matrix of the model.
Imatrix imatrix_for(const TinyModel& model) {
  Imatrix imatrix;
  std::mt19937 random(3);
  std::exponential_distribution<float> exponential;
  for (const TinyTensor& tensor : model.tensors) {
    if (tensor.n_dims() != 2) continue;
    std::vector<float> sums(tensor.shape[0]);
    for (float& sum : sums) sum = exponential(random) + 0.01f;
    REQUIRE(imatrix.add(tensor.name, sums, 4));
  }
  imatrix.datasets = {"calibration.txt"};
  imatrix.chunk_count = 5;
  imatrix.source = "tiny.imatrix.gguf";
  return imatrix;
}

}  // namespace

TEST_CASE("every recipe writes a model as planned, the same for any number of threads") {
  const TempDir dir;
  const TinyModel model;
  model.write(dir / "in.gguf");
  const Imatrix imatrix = imatrix_for(model);
  for (const Recipe& recipe : recipes()) {
    const std::string name(recipe.name);
    INFO(name);
    QuantizeModelOptions options;
    if (recipe.needs_imatrix) options.imatrix = &imatrix;
    options.threads = 1;
    const auto report = run(dir / "in.gguf", dir / "out.gguf", name.c_str(), options);
    for (const int threads : {3, 0}) {
      options.threads = threads;
      run(dir / "in.gguf", dir / "again.gguf", name.c_str(), options);
      CHECK(test::read_bytes(dir / "out.gguf") == test::read_bytes(dir / "again.gguf"));
    }

    options.dry_run = true;
    const auto dry = run(dir / "in.gguf", dir / "dry.gguf", name.c_str(), options);
    CHECK(!std::filesystem::exists(dir / "dry.gguf"));
    CHECK(dry.file_bytes_after == 0);
    CHECK(report.file_bytes_after == std::filesystem::file_size(dir / "out.gguf"));
    CHECK(report.file_bytes_before == std::filesystem::file_size(dir / "in.gguf"));
    CHECK(dry.bits_per_weight_after == report.bits_per_weight_after);
    CHECK(report.bits_per_weight_before == 32);

    const auto out = open(dir / "out.gguf");
    CHECK(out.get_int("general.file_type").value() == recipe.file_type);
    CHECK(out.get_int("general.quantization_version").value() == 2);
    CHECK(out.get_string("made.up.key").value() == "kept");
    REQUIRE(out.tensors().size() == model.tensors.size());
    for (std::size_t i = 0; i < model.tensors.size(); ++i) {
      const TensorReport& planned = report.tensors[i];
      const gguf::Tensor& tensor = out.tensors()[i];
      CHECK(tensor.name == model.tensors[i].name);
      CHECK(tensor.shape == model.tensors[i].shape);
      CHECK(tensor.type == planned.plan.target);
      CHECK(tensor.data.size() == planned.bytes_after);
      CHECK(tensor.data.size() == dry.tensors[i].bytes_after);
      CHECK(planned.bytes_before == model.tensors[i].data.size());
      CHECK(planned.error.has_value() == (tensor.type != F32));
      CHECK_FALSE(dry.tensors[i].error.has_value());
      if (tensor.type == F32)
        CHECK(std::ranges::equal(tensor.data, model.tensors[i].data));
      else
        CHECK((planned.error->rel_rmse() > 0 && planned.error->rel_rmse() < 0.4));
    }
  }
}

TEST_CASE("rows are quantized as the block quantizer does, however many panels they take") {
  const TempDir dir;
  TinyModel model;
  model.tensors.clear();
  // Two panels and a bit; the last one is shorter.
  model.add("output.weight", {256, 2 * (1 << 22) / 256 + 5});
  model.write(dir / "in.gguf");
  const auto report = run(dir / "in.gguf", dir / "out.gguf", "Q8_0");
  const auto out = open(dir / "out.gguf");

  TinyTensor& tensor = model.tensors[0];
  const Span2d<const float> rows(tensor.floats(), tensor.shape[1], tensor.shape[0]);
  std::vector<std::byte> expected(tensor.shape[1] * row_bytes(Q8_0, tensor.shape[0]));
  REQUIRE(quantize(Q8_0, rows, expected, {.unbiased = true}));
  CHECK(std::ranges::equal(out.tensors()[0].data, expected));
  const auto error = measure_error(Q8_0, rows, expected);
  REQUIRE(error);
  CHECK(report.tensors[0].error->rel_rmse() == Approx(error->rel_rmse()).epsilon(1e-9));
  CHECK(report.tensors[0].error->max_abs == error->max_abs);
}

TEST_CASE("only where no norm evens products out are rows kept as long as they were") {
  const TempDir dir;
  TinyModel model;
  model.add("blk.1.attn_q_norm.weight", {512});
  model.add("blk.2.post_attention_norm.weight", {512});
  model.add("blk.3.post_ffw_norm.weight", {512});
  model.write(dir / "in.gguf");
  const auto is = [&](const char* file, const std::string& name, bool unbiased) {
    const auto out = open(dir / file);
    const auto* tensor = out.find_tensor(name);
    REQUIRE(tensor);
    TinyTensor& source = model.at(name);
    std::vector<std::byte> expected(tensor->data.size());
    REQUIRE(quantize(tensor->type, {source.floats(), source.shape[1], source.shape[0]}, expected,
                     {.unbiased = unbiased}));
    return std::ranges::equal(tensor->data, expected);
  };
  run(dir / "in.gguf", dir / "out.gguf", "Q2_K");
  for (int layer = 0; layer < 4; ++layer)
    for (const auto& [part, evened_out_in] :
         {std::pair{"attn_q", 1}, {"attn_v", 2}, {"attn_output", 2}, {"ffn_up", 3}}) {
      const auto name = fmt::format("blk.{}.{}.weight", layer, part);
      INFO(name);
      CHECK(is("out.gguf", name, layer != evened_out_in));
    }
  CHECK(is("out.gguf", "output.weight", true));

  QuantizeModelOptions options;
  options.unbiased = false;
  run(dir / "in.gguf", dir / "least.gguf", "Q2_K", options);
  CHECK(is("least.gguf", "blk.0.attn_q.weight", false));
}

TEST_CASE("an imatrix weights the columns and is recorded") {
  const TempDir dir;
  const TinyModel model;
  model.write(dir / "in.gguf");
  Imatrix imatrix = imatrix_for(model);
  QuantizeModelOptions options;
  options.imatrix = &imatrix;
  const auto plain = run(dir / "in.gguf", dir / "plain.gguf", "Q4_K_S");
  const auto weighted = run(dir / "in.gguf", dir / "weighted.gguf", "Q4_K_S", options);
  QuantizationError unweighted_sum, weighted_sum;
  for (std::size_t i = 0; i < model.tensors.size(); ++i) {
    CHECK(weighted.tensors[i].weighted == (model.tensors[i].n_dims() == 2));
    CHECK_FALSE(plain.tensors[i].weighted);
    const TinyTensor& tensor = model.tensors[i];
    if (tensor.n_dims() != 2) continue;
    // The plain file's error, seen through the same importance.
    const Span2d<const float> rows(reinterpret_cast<const float*>(tensor.data.data()),
                                   tensor.shape[1], tensor.shape[0]);
    const auto file = open(dir / "plain.gguf");
    const auto importance = imatrix.importance(tensor.name);
    const auto error =
        measure_error(file.tensors()[i].type, rows, file.tensors()[i].data, {*importance, 1});
    REQUIRE(error);
    unweighted_sum += *error;
    weighted_sum += *weighted.tensors[i].error;
  }
  CHECK(weighted_sum.weighted_rel_rmse() < 0.97 * unweighted_sum.weighted_rel_rmse());

  const auto out = open(dir / "weighted.gguf");
  CHECK(out.get_string("quantize.imatrix.file").value() == "tiny.imatrix.gguf");
  CHECK(out.get_string("quantize.imatrix.dataset").value() == "calibration.txt");
  CHECK(out.find("quantize.imatrix.entries_count")->type() == gguf::ValueType::U32);
  CHECK(out.get_int("quantize.imatrix.entries_count").value() == 26);
  CHECK(out.get_int("quantize.imatrix.chunks_count").value() == 5);

  // Another imatrix that knows less leaves nothing of the first behind.
  imatrix.source.clear();
  imatrix.datasets.clear();
  run(dir / "weighted.gguf", dir / "again.gguf", "Q2_K", options);
  CHECK(!open(dir / "again.gguf").find("quantize.imatrix.file"));
  CHECK(!open(dir / "again.gguf").find("quantize.imatrix.dataset"));
}

TEST_CASE("imatrix problems are told before anything is written") {
  const TempDir dir;
  const TinyModel model;
  model.write(dir / "in.gguf");

  const auto missing = fail_to_run(dir / "in.gguf", dir / "out.gguf", "Q2_K_S");
  CHECK(missing.code == ErrorCode::kInvalidArgument);
  CHECK(mentions(missing, "Q2_K_S needs an imatrix"));
  QuantizeModelOptions dry;
  dry.dry_run = true;
  CHECK(quantize_model(open(dir / "in.gguf"), dir / "out.gguf", *find_recipe("Q2_K_S"), dry));

  Imatrix partial;
  REQUIRE(partial.add("blk.0.attn_q.weight", std::vector<float>(512, 1), 1));
  REQUIRE(partial.add("mtp.weight", std::vector<float>(512, 1), 1));
  QuantizeModelOptions options;
  options.imatrix = &partial;
  CHECK(mentions(fail_to_run(dir / "in.gguf", dir / "out.gguf", "Q2_K_S", options),
                 "blk.0.attn_output.weight': recipe Q2_K_S needs an imatrix, and the given one"));
  const auto report = run(dir / "in.gguf", dir / "out.gguf", "Q4_K_M", options);
  CHECK(report.unused_imatrix_entries == std::vector<std::string>{"mtp.weight"});
  std::filesystem::remove(dir / "out.gguf");

  Imatrix other_model;
  REQUIRE(other_model.add("model.layers.0.weight", std::vector<float>(512, 1), 1));
  options.imatrix = &other_model;
  CHECK(mentions(fail_to_run(dir / "in.gguf", dir / "out.gguf", "Q4_K_M", options),
                 "none of the imatrix's 1 entries"));

  Imatrix wrong_length;
  REQUIRE(wrong_length.add("blk.1.ffn_up.weight", std::vector<float>(256, 1), 1));
  options.imatrix = &wrong_length;
  CHECK(mentions(fail_to_run(dir / "in.gguf", dir / "out.gguf", "Q4_K_M", options),
                 "'blk.1.ffn_up.weight': its imatrix entry has 256 values, expected 512"));

  Imatrix not_finite;
  REQUIRE(not_finite.add("blk.1.ffn_up.weight",
                         std::vector<float>(512, std::numeric_limits<float>::quiet_NaN()), 1));
  options.imatrix = &not_finite;
  const auto error = fail_to_run(dir / "in.gguf", dir / "out.gguf", "Q4_K_M", options);
  CHECK(error.code == ErrorCode::kBadData);
  CHECK(mentions(error, "'blk.1.ffn_up.weight'"));
}

TEST_CASE("each expert is weighted by its own importance") {
  const TempDir dir;
  TinyModel model;
  model.metadata.set_u32("llama.expert_count", 3);
  TinyTensor experts = model.add("blk.0.ffn_up_exps.weight", {256, 8, 3, 1});
  model.write(dir / "in.gguf");

  // Three experts that differ in their columns; the middle one was never met.
  Imatrix imatrix;
  {
    std::vector<float> sums(3 * 256);
    std::mt19937 random(11);
    std::exponential_distribution<float> exponential;
    for (float& sum : sums) sum = exponential(random);
    const std::vector<float> counts = {2, 0, 5};
    std::vector<gguf::TensorSpec> specs = {{experts.name + ".in_sum2", F32, 2, {256, 3, 1, 1}},
                                           {experts.name + ".counts", F32, 2, {1, 3, 1, 1}}};
    auto writer = gguf::Writer::create(dir / "imatrix.gguf", {}, specs);
    REQUIRE(writer);
    REQUIRE(writer->append(std::as_bytes(std::span(sums))));
    REQUIRE(writer->append(std::as_bytes(std::span(counts))));
    REQUIRE(writer->finish());
    imatrix = *Imatrix::load(dir / "imatrix.gguf");
  }
  QuantizeModelOptions options;
  options.imatrix = &imatrix;
  run(dir / "in.gguf", dir / "out.gguf", "Q3_K_S", options);
  const auto out = open(dir / "out.gguf");
  const auto* tensor = out.find_tensor(experts.name);
  REQUIRE(tensor);
  CHECK(tensor->n_dims == 3);
  const auto importance = *imatrix.importance(experts.name);
  const std::size_t bytes = 8 * row_bytes(Q3_K, 256);
  for (std::size_t e = 0; e < 3; ++e) {
    std::vector<std::byte> expected(bytes);
    REQUIRE(quantize(Q3_K, Span2d<const float>(experts.floats() + e * 8 * 256, 8, 256), expected,
                     {std::span(importance).subspan(e * 256, 256), 1, Effort::kBest,
                      kModelImportanceFloor, true}));
    CHECK(std::ranges::equal(tensor->data.subspan(e * bytes, bytes), expected));
  }
}

TEST_CASE("a NaN or Inf weight is named by tensor, row and column") {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    const TempDir dir;
    TinyModel model;
    model.at("blk.2.ffn_up.weight").floats()[71 * 512 + 300] = bad;
    model.at("blk.2.ffn_up.weight").floats()[72 * 512 + 1] = bad;
    model.write(dir / "in.gguf");
    const auto error = fail_to_run(dir / "in.gguf", dir / "out.gguf", "Q4_K_M");
    CHECK(error.code == ErrorCode::kBadData);
    CHECK(mentions(error, "in.gguf: tensor 'blk.2.ffn_up.weight': row 71, column 300"));
    CHECK(files_in(dir) == 1);  // no unfinished file is left either
  }
  // Rows count from the start of the tensor, whatever the panel or expert.
  const TempDir dir;
  TinyModel model;
  model.add("blk.0.ffn_up_exps.weight", {256, 4, 3, 1}).floats()[(2 * 4 + 1) * 256 + 9] =
      std::numeric_limits<float>::quiet_NaN();
  model.write(dir / "in.gguf");
  CHECK(mentions(fail_to_run(dir / "in.gguf", dir / "out.gguf", "Q6_K"), "row 9, column 9"));
}

TEST_CASE("an error of another quantizer's own is told as it is") {
  const TempDir dir;
  TinyModel().write(dir / "in.gguf");
  QuantizeModelOptions options;
  options.quantizer = [](TensorType, Span2d<const float>, std::span<std::byte>,
                         const QuantizeOptions&) -> Result<void> {
    return fail(ErrorCode::kBadData, "bits were lost");
  };
  const auto error = fail_to_run(dir / "in.gguf", dir / "out.gguf", "Q4_K_M", options);
  CHECK(error.code == ErrorCode::kBadData);
  CHECK(mentions(error, "bits were lost"));
  CHECK(files_in(dir) == 1);
}

TEST_CASE("progress reports every tensor, and stopping leaves nothing") {
  const TempDir dir;
  const TinyModel model;
  model.write(dir / "in.gguf");
  QuantizeModelOptions options;
  std::vector<std::string> seen;
  options.progress = [&](std::size_t done, std::size_t total, const std::string& tensor) {
    CHECK(total == model.tensors.size());
    seen.push_back(tensor);
    CHECK(done == seen.size());
    return true;
  };
  run(dir / "in.gguf", dir / "out.gguf", "Q4_K_M", options);
  REQUIRE(seen.size() == model.tensors.size());
  for (std::size_t i = 0; i < seen.size(); ++i) CHECK(seen[i] == model.tensors[i].name);

  std::filesystem::remove(dir / "out.gguf");
  options.progress = [](std::size_t done, std::size_t, const std::string&) { return done < 5; };
  CHECK(mentions(fail_to_run(dir / "in.gguf", dir / "out.gguf", "Q4_K_M", options), "interrupted"));
  CHECK(files_in(dir) == 1);
}

TEST_CASE("a model is quantized over itself") {
  const TempDir dir;
  const TinyModel model;
  model.write(dir / "model.gguf");
  run(dir / "model.gguf", dir / "other.gguf", "Q5_K_M");
  run(dir / "model.gguf", dir / "model.gguf", "Q5_K_M");
  CHECK(test::read_bytes(dir / "model.gguf") == test::read_bytes(dir / "other.gguf"));
  CHECK(files_in(dir) == 2);
}

TEST_CASE("quantized models are quantized again from the values they hold") {
  const TempDir dir;
  TinyModel model;
  model.write(dir / "in.gguf");
  run(dir / "in.gguf", dir / "q8.gguf", "Q8_0");
  const auto report = run(dir / "q8.gguf", dir / "q4.gguf", "Q4_K_M");
  const auto q8 = open(dir / "q8.gguf");
  const auto q4 = open(dir / "q4.gguf");
  CHECK(q4.get_int("general.file_type").value() == 15);
  const auto* before = q8.find_tensor("blk.0.attn_q.weight");
  const auto* after = q4.find_tensor("blk.0.attn_q.weight");
  REQUIRE((before->type == Q8_0 && after->type == Q4_K));
  std::vector<float> values(before->size());
  REQUIRE(dequantize(Q8_0, before->data, Span2d<float>(values.data(), 8, 512)));
  std::vector<std::byte> expected(after->data.size());
  REQUIRE(quantize(Q4_K, Span2d<const float>(values.data(), 8, 512), expected, {.unbiased = true}));
  CHECK(std::ranges::equal(after->data, expected));
  CHECK(report.bits_per_weight_before < 9);

  // Tensors that have the planned type already are copied, not quantized once more.
  const auto same = run(dir / "q4.gguf", dir / "same.gguf", "Q4_K_M");
  for (const auto& tensor : same.tensors) CHECK(!tensor.error);
  CHECK(test::read_bytes(dir / "same.gguf") == test::read_bytes(dir / "q4.gguf"));

  QuantizeModelOptions options;
  options.allow_requantize = false;
  CHECK(mentions(fail_to_run(dir / "q8.gguf", dir / "no.gguf", "Q4_K_M", options),
                 "already quantized to Q8_0"));
  run(dir / "in.gguf", dir / "yes.gguf", "Q4_K_M", options);  // floats are no such case
}

TEST_CASE("half and bfloat16 sources are read, others that cannot be are refused") {
  const TempDir dir;
  TinyModel model;
  model.write(dir / "in.gguf");
  for (const char* plain : {"F16", "BF16"}) {
    run(dir / "in.gguf", dir / "plain.gguf", plain);
    CHECK(open(dir / "plain.gguf").find_tensor("output.weight")->type == find_type(plain)->type);
    const auto report = run(dir / "plain.gguf", dir / "q6.gguf", "Q6_K");
    CHECK(report.tensors.back().error->rel_rmse() < 0.03);
  }
  TinyTensor& odd = model.at("blk.1.attn_q.weight");
  odd.type = IQ4_NL;
  odd.data.resize(8 * row_bytes(IQ4_NL, 512));
  model.write(dir / "odd.gguf");
  const auto error = fail_to_run(dir / "odd.gguf", dir / "out.gguf", "Q4_K_M");
  CHECK(error.code == ErrorCode::kInvalidArgument);
  CHECK(mentions(error, "odd.gguf: tensor 'blk.1.attn_q.weight': its type IQ4_NL cannot be read"));

  odd.name = "blk.1.attn_q_norm.weight";  // is only copied
  model.write(dir / "copied.gguf");
  run(dir / "copied.gguf", dir / "out.gguf", "Q4_K_M");
  CHECK(std::ranges::equal(open(dir / "out.gguf").find_tensor(odd.name)->data, odd.data));
}

TEST_CASE("a split model becomes one file") {
  const TempDir dir;
  TinyModel model;
  model.write(dir / "whole.gguf");
  run(dir / "whole.gguf", dir / "expected.gguf", "Q4_K_M");
  const std::size_t cuts[] = {0, 9, 20, model.tensors.size()};
  const gguf::Metadata whole = model.metadata;
  for (std::size_t shard = 0; shard < 3; ++shard) {
    model.metadata = shard == 0 ? whole : gguf::Metadata{};
    const auto number = static_cast<std::uint16_t>(shard);
    const std::uint16_t count = 3;
    model.metadata.set("split.no", gguf::Value(gguf::ValueType::U16, gguf::ValueType::U16, 1,
                                               std::as_bytes(std::span(&number, 1))));
    model.metadata.set("split.count", gguf::Value(gguf::ValueType::U16, gguf::ValueType::U16, 1,
                                                  std::as_bytes(std::span(&count, 1))));
    model.metadata.set_i32("split.tensors.count", static_cast<std::int32_t>(model.tensors.size()));
    model.write(dir / fmt::format("split-0000{}-of-00003.gguf", shard + 1), cuts[shard],
                cuts[shard + 1]);
  }
  run(dir / "split-00001-of-00003.gguf", dir / "merged.gguf", "Q4_K_M");
  CHECK(test::read_bytes(dir / "merged.gguf") == test::read_bytes(dir / "expected.gguf"));
}

TEST_CASE("the shape of a model is read from its metadata") {
  const TempDir dir;
  TinyModel model;
  const auto shape = [&] {
    model.write(dir / "in.gguf");
    return model_shape(open(dir / "in.gguf"));
  };
  CHECK(shape()->architecture == "llama");
  CHECK(shape()->n_layers == 4);
  CHECK(shape()->n_heads == 8);
  CHECK(shape()->n_kv_heads == 2);
  CHECK(shape()->n_experts == 0);

  const std::int32_t per_layer[] = {6, 8, 8, 8};
  model.metadata.set_ints("llama.attention.head_count", per_layer);
  model.metadata.erase("llama.attention.head_count_kv");
  model.metadata.set_u32("llama.expert_count", 8);
  CHECK(shape()->n_heads == 6);
  CHECK(shape()->n_kv_heads == 6);
  CHECK(shape()->n_experts == 8);

  model.metadata.set_u32("llama.block_count", 80);
  model.metadata.set_u32("llama.attention.head_count_kv", 1);
  CHECK(shape()->is_70b);

  model.metadata.set_string("llama.expert_count", "eight");
  CHECK(!shape());
  model.metadata.set_i32("llama.expert_count", -1);
  CHECK(!shape());
  model.metadata.erase("llama.expert_count");
  model.metadata.erase("llama.block_count");
  CHECK(!shape());
  model.metadata.erase("general.architecture");
  CHECK(!shape());
}

TEST_CASE("the plan's options reach the file") {
  const TempDir dir;
  const TinyModel model;
  model.write(dir / "in.gguf");
  QuantizeModelOptions options;
  options.plan.overrides = {{"attn_q", Q8_0}};
  options.plan.output_type = F16;
  run(dir / "in.gguf", dir / "out.gguf", "Q2_K", options);
  const auto out = open(dir / "out.gguf");
  CHECK(out.find_tensor("blk.3.attn_q.weight")->type == Q8_0);
  CHECK(out.find_tensor("output.weight")->type == F16);
  CHECK(out.find_tensor("blk.0.attn_v.weight")->type == Q4_K);
  CHECK(out.find_tensor("blk.0.ffn_down.weight")->type == Q4_0);  // 96 columns

  options.plan.overrides = {{"(", Q8_0}};
  CHECK(!quantize_model(open(dir / "in.gguf"), dir / "bad.gguf", *find_recipe("Q2_K"), options));
}

/// Bytes of memory this process has in use, pages of mapped files among them.
std::size_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::size_t pages = 0, resident = 0;
  in >> pages >> resident;
  return resident * 4096;
}

TEST_CASE("a large model streams: memory is that of a few panels of rows") {
  const TempDir dir;
  constexpr std::size_t kTensors = 12, kCols = 2048, kRows = 1024, kBytes = 4 * kCols * kRows;
  std::mt19937 random(1);
  {
    const auto values = random_floats(kCols * kRows, random);
    gguf::Metadata metadata;
    metadata.set_string("general.architecture", "llama");
    metadata.set_u32("llama.block_count", kTensors);
    metadata.set_u32("llama.attention.head_count", 8);
    std::vector<gguf::TensorSpec> specs;
    for (std::size_t i = 0; i < kTensors; ++i)
      specs.push_back({fmt::format("blk.{}.attn_q.weight", i), F32, 2, {kCols, kRows, 1, 1}});
    auto writer = gguf::Writer::create(dir / "in.gguf", metadata, specs);
    REQUIRE(writer);
    for (std::size_t i = 0; i < kTensors; ++i) REQUIRE(writer->append(values));
    REQUIRE(writer->finish());
  }
  const std::size_t before = resident_bytes();
  std::size_t most = 0;
  QuantizeModelOptions options;
  options.effort = Effort::kFast;
  options.progress = [&](std::size_t, std::size_t, const std::string&) {
    most = std::max(most, resident_bytes());
    return true;
  };
  run(dir / "in.gguf", dir / "out.gguf", "F16", options);
  run(dir / "in.gguf", dir / "out.gguf", "Q8_0", options);
  CHECK(most < before + kTensors * kBytes / 2);  // of 100 MB read: a panel, packed, and buffers
}

}  // namespace kquant
