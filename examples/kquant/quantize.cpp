// kquant quantize: a model to a recipe, with the error of every tensor.

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.hpp"
#include "kquant/allocation.hpp"
#include "kquant/eval/calibrated_quantization.hpp"
#include "kquant/eval/plan_file.hpp"
#include "kquant/eval/sensitivity.hpp"
#include "kquant/quantize_model.hpp"
#include "terminal.hpp"

namespace kquant::cli {

namespace {

struct Options {
  std::string in, out, recipe, imatrix, output_type, embedding_type, effort, calibrate, plan,
      save_plan;
  int chunks = 128;
  double target_bits = 0;
  std::uint64_t target_bytes = 0;
  std::vector<std::string> overrides;
  float importance_floor = kModelImportanceFloor;
  int threads = 0;
  bool dry_run = false, pure = false, json = false, fused_qkv_rule = false, least_error = false;
  std::optional<cuda::Device> gpu;
};

TensorType type_named(const std::string& name) {
  const TypeInfo* info = find_type(std::string_view(name));
  if (info == nullptr || info->support == Support::kOpaque)
    give_up(ErrorCode::kInvalidArgument,
            fmt::format("'{}' is not a tensor type that can be written", name));
  return info->type;
}

const char* name_of(Effort effort) {
  return effort == Effort::kFast ? "fast" : "best";
}

nlohmann::ordered_json json_of(const Options& o, const QuantizeReport& report) {
  nlohmann::ordered_json out = {{"in", o.in},
                                {"out", o.out},
                                {"recipe", o.recipe},
                                {"effort", name_of(report.effort)},
                                {"bits_per_weight_before", report.bits_per_weight_before},
                                {"bits_per_weight_after", report.bits_per_weight_after},
                                {"file_bytes_before", report.file_bytes_before},
                                {"file_bytes_after", report.file_bytes_after}};
  out["tensors"] = nlohmann::ordered_json::array();
  for (const TensorReport& t : report.tensors) {
    nlohmann::ordered_json row = {{"name", t.plan.name},
                                  {"from", type_info(t.plan.source).name},
                                  {"to", type_info(t.plan.target).name},
                                  {"reason", t.plan.reason},
                                  {"bytes_before", t.bytes_before},
                                  {"bytes_after", t.bytes_after}};
    if (t.error) {
      row["rel_rmse"] = t.error->rel_rmse();
      row["weighted_rel_rmse"] = t.error->weighted_rel_rmse();
      row["max_abs_error"] = t.error->max_abs;
    }
    out["tensors"].push_back(std::move(row));
  }
  return out;
}

void print(const Options& o, const QuantizeReport& report) {
  const bool weighted = !o.imatrix.empty();
  fmt::print("{:<36} {:>6} {:>6} {:>12} {:>10} {}{}\n", "tensor", "from", "to", "size", "rel. RMSE",
             weighted ? "weighted   " : "", "why");
  QuantizationError all;
  for (const TensorReport& t : report.tensors) {
    fmt::print("{:<36} {:>6} {:>6} {:>12} ", t.plan.name, type_info(t.plan.source).name,
               type_info(t.plan.target).name, human_bytes(static_cast<double>(t.bytes_after)));
    if (t.error) {
      fmt::print("{:>10.6f} ", t.error->rel_rmse());
      if (weighted) fmt::print("{:>10.6f} ", t.error->weighted_rel_rmse());
      all += *t.error;
    } else {
      fmt::print("{:>10} ", "-");
      if (weighted) fmt::print("{:>10} ", "-");
    }
    fmt::print("{}\n", t.plan.reason);
  }
  fmt::print("\n{:.4f} -> {:.4f} bits per weight", report.bits_per_weight_before,
             report.bits_per_weight_after);
  if (o.dry_run) {
    fmt::print("; dry run, nothing written\n");
    return;
  }
  fmt::print(", {} -> {}, relative RMSE of all quantized weights {:.6f}",
             human_bytes(static_cast<double>(report.file_bytes_before)),
             human_bytes(static_cast<double>(report.file_bytes_after)), all.rel_rmse());
  if (weighted) fmt::print(" (weighted {:.6f})", all.weighted_rel_rmse());
  fmt::print("\n");
}

/// Types that fit the size asked for.
TypePlan plan_for_target(const Options& o, const gguf::File& in, const std::string& text,
                         const QuantizeModelOptions& options) {
  Choices choices;
  {
    Progress progress("try types");
    choices = value_of(measure_choices(
        in, {.imatrix = options.imatrix,
             .plan = options.plan,
             .threads = options.threads,
             .progress = [&](std::size_t done, std::size_t total, const std::string& tensor) {
               return progress.update(done, total, tensor);
             }}));
  }
  if (!text.empty()) {
    Progress progress("divergence");
    check(measure_divergences(in, text, choices,
                              {.chunks = 4, .progress = [&](int done, int total) {
                                 return progress.update(static_cast<std::size_t>(done),
                                                        static_cast<std::size_t>(total));
                               }}));
  }
  return value_of(allocate(
      choices, o.target_bytes > 0 ? o.target_bytes : file_bytes_for(choices, o.target_bits)));
}

void quantize_command(const Options& o) {
  const int ways = !o.recipe.empty() + !o.plan.empty() + (o.target_bits > 0) + (o.target_bytes > 0);
  if (ways != 1)
    give_up(ErrorCode::kInvalidArgument,
            "expected one of RECIPE, --target-bpw, --target-size and --plan");
  use_threads(o.threads);
  QuantizeModelOptions options;
  for (const std::string& text : o.overrides)
    options.plan.overrides.push_back(value_of(parse_override(text)));
  if (!o.output_type.empty()) options.plan.output_type = type_named(o.output_type);
  if (!o.embedding_type.empty()) options.plan.token_embedding_type = type_named(o.embedding_type);
  options.plan.pure = o.pure;
  if (o.fused_qkv_rule) options.plan.version = RecipeVersion::kFusedQkvRule;
  options.threads = o.threads;
  options.importance_floor = o.importance_floor;
  options.unbiased = !o.least_error;
  if (!o.effort.empty()) options.effort = o.effort == "fast" ? Effort::kFast : Effort::kBest;
  options.dry_run = o.dry_run;
  if (o.gpu)
    options.quantizer = [&](TensorType type, Span2d<const float> in, std::span<std::byte> out,
                            const QuantizeOptions& how) {
      return cuda::quantize(*o.gpu, type, in, out, how);
    };
  const gguf::File in = value_of(gguf::File::open(o.in));
  Imatrix imatrix;
  if (!o.imatrix.empty()) {
    imatrix = value_of(Imatrix::load(o.imatrix));
    options.imatrix = &imatrix;
  }
  const std::string text = o.calibrate.empty() ? "" : read_text(o.calibrate);
  if (!o.plan.empty())
    options.plan.types = value_of(read_plan(o.plan));
  else if (o.recipe.empty())
    options.plan.types = plan_for_target(o, in, text, options);
  const Recipe recipe =
      value_of(o.recipe.empty() ? nearest_recipe(in, options.plan.types) : find_recipe(o.recipe));
  QuantizeReport report;
  {
    Progress progress("quantize");
    options.progress = [&](std::size_t done, std::size_t total, const std::string& tensor) {
      return progress.update(done, total, tensor);
    };
    report =
        text.empty()
            ? value_of(quantize_model(in, o.out, recipe, options))
            : value_of(quantize_calibrated(in, o.out, recipe, text, options, {.chunks = o.chunks}));
  }
  if (!o.save_plan.empty()) {
    TypePlan types;
    for (const TensorReport& tensor : report.tensors)
      if (tensor.plan.reason != "kept") types[tensor.plan.name] = tensor.plan.target;
    check(write_plan(o.save_plan, types, report.bits_per_weight_after));
  }
  if (o.json)
    fmt::print("{}\n", json_of(o, report).dump(2));
  else
    print(o, report);
}

}  // namespace

void add_quantize(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("quantize", "Quantize a GGUF model to a recipe");
  std::string names;
  for (const Recipe& recipe : recipes())
    names += fmt::format("{}{}", names.empty() ? "" : ", ", recipe.name);
  command->add_option("IN", o->in, "Model to read")->required();
  command->add_option("OUT", o->out, "Model to write (replaced only when complete)")->required();
  command->add_option("RECIPE", o->recipe, "One of " + names);
  command
      ->add_option("--target-bpw", o->target_bits,
                   "Instead of RECIPE: types that together have so many bits a weight and cost "
                   "least, by --calibrate's divergence, --imatrix's error or plain error")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--target-size", o->target_bytes,
                   "The same for a file of so many bytes (also 1.5MB, 700MiB, 4GB)")
      ->transform(CLI::AsSizeValue(true));
  command->add_option("--plan", o->plan, "Instead of RECIPE: types from a file (JSON)");
  command->add_option("--save-plan", o->save_plan, "Write the types there, for --plan");
  command->add_option("--imatrix", o->imatrix,
                      "Importance matrix: GGUF or legacy .dat (see kquant imatrix)");
  command->add_option("--calibrate", o->calibrate,
                      "Text: quantize with error feedback for what the model meets in it");
  command->add_option("--chunks", o->chunks, "Windows of 512 tokens of it at most (0: all)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--tensor-type", o->overrides,
                   "Tensors whose name the regular expression is found in get this type; the first "
                   "match decides")
      ->type_name("REGEX=TYPE")
      ->take_all()
      ->expected(1);
  command->add_option("--output-tensor-type", o->output_type, "Type of output.weight");
  command->add_option("--token-embedding-type", o->embedding_type, "Type of token_embd.weight");
  command->add_flag("--pure", o->pure, "The recipe's base type for every tensor");
  command->add_flag("--fused-qkv-rule", o->fused_qkv_rule,
                    "Older recipes' rule for a fused attn_qkv (Phi-3)");
  command
      ->add_option("--importance-floor", o->importance_floor,
                   "How little the imatrix is trusted: this part of a block's mean importance is "
                   "added to every weight's")
      ->capture_default_str();
  command->add_flag("--least-error", o->least_error,
                    "Scales of least error, with which all products are a little too small, and "
                    "answers further off");
  command
      ->add_option("--effort", o->effort,
                   "How long to search for the best scales (default: best; fast for models of more "
                   "than two billion weights)")
      ->check(CLI::IsMember({"fast", "best"}));
  command->add_option("--threads", o->threads, "Threads; the bytes do not depend on it")
      ->check(CLI::Range(1, 1024));
  add_device_option(*command,
                    "weights are quantized, to the same bytes "
                    "(--calibrate and trying types remain the CPU's)",
                    [o](const cuda::Device& device) { o->gpu = device; });
  command->add_flag("--dry-run", o->dry_run, "Print the plan and the sizes, write nothing");
  command->add_flag("--json", o->json, "Report as JSON");
  command->footer(
      "Examples:\n"
      "  kquant quantize model-f16.gguf model-q4.gguf Q4_K_M\n"
      "  kquant quantize in.gguf out.gguf Q3_K_M --imatrix in.imatrix.gguf --tensor-type "
      "'ffn_down=Q5_K'\n"
      "  kquant quantize in.gguf out.gguf Q2_K --calibrate text.txt\n"
      "  kquant quantize in.gguf out.gguf --target-bpw 4.2 --calibrate text.txt --save-plan "
      "p.json\n"
      "  kquant quantize in.gguf out.gguf Q2_K --dry-run");
  command->callback([o] { quantize_command(*o); });
}

}  // namespace kquant::cli
