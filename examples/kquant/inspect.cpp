// kquant inspect: metadata, tensors, types, sizes, bits per weight.

#include <fmt/format.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "kquant/gguf.hpp"
#include "terminal.hpp"

namespace kquant::cli {

namespace {

using Json = nlohmann::ordered_json;

/// Strings in a file may hold any bytes; JSON may not.
std::string printable(std::string_view text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json json_of(const gguf::Value& value) {
  if (const auto text = value.as_string()) return *text;
  if (const auto flag = value.as_bool()) return *flag;
  if (value.type() != gguf::ValueType::Array) {
    if (const auto integer = value.as_int()) return *integer;
    if (const auto real = value.as_float()) return *real;
  }
  Json array = {{"array_of", gguf::name(value.element_type())}, {"count", value.count()}};
  constexpr std::uint64_t kShort = 64;  // a vocabulary is not worth printing
  if (value.count() <= kShort) {
    if (const auto strings = value.as_strings())
      array["values"] = *strings;
    else if (const auto integers = value.as_ints())
      array["values"] = *integers;
    else if (const auto reals = value.as_floats())
      array["values"] = *reals;
  }
  return array;
}

std::string text_of(const gguf::Value& value) {
  if (value.type() == gguf::ValueType::Array)
    return fmt::format("[{} x {}]", value.count(), gguf::name(value.element_type()));
  if (const auto text = value.as_string()) {
    std::string shown = printable(*text);
    constexpr std::size_t kLong = 72;
    if (shown.size() > kLong) shown = printable(text->substr(0, kLong)) + " …";
    return shown;
  }
  return json_of(value).dump();
}

std::string shape_of(const gguf::Tensor& tensor) {
  std::string shape;
  for (int i = 0; i < tensor.n_dims; ++i)
    shape += fmt::format("{}{}", i == 0 ? "" : " x ", tensor.shape[static_cast<std::size_t>(i)]);
  return shape;
}

struct Totals {
  std::uint64_t tensors = 0, weights = 0, bytes = 0;
  void add(const gguf::Tensor& t) {
    ++tensors;
    weights += t.size();
    bytes += t.data.size();
  }
  double bits() const {
    return weights == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
  }
};

void inspect(const std::string& path, bool as_json) {
  const gguf::File file = value_of(gguf::File::open(path));
  Totals all;
  std::map<std::string_view, Totals> by_type;
  for (const gguf::Tensor& tensor : file.tensors()) {
    all.add(tensor);
    by_type[type_info(tensor.type).name].add(tensor);
  }
  if (as_json) {
    Json out = {{"path", path},
                {"version", file.version()},
                {"alignment", file.alignment()},
                {"file_bytes", file.total_bytes()},
                {"weights", all.weights},
                {"tensor_bytes", all.bytes},
                {"bits_per_weight", all.bits()}};
    // Appended without looking each key up among those before: keys of a file are unique, and may
    // be a million.
    Json::object_t metadata;
    for (std::size_t i = 0; i < file.metadata_count(); ++i)
      metadata.push_back({std::string(file.key(i)), json_of(file.value(i))});
    out["metadata"] = std::move(metadata);
    out["tensors"] = Json::array();
    for (const gguf::Tensor& t : file.tensors())
      out["tensors"].push_back({{"name", t.name},
                                {"type", type_info(t.type).name},
                                {"shape", std::vector(t.shape.begin(), t.shape.begin() + t.n_dims)},
                                {"offset", t.offset},
                                {"bytes", t.data.size()},
                                {"file", t.shard}});
    fmt::print("{}\n", out.dump(2, ' ', false, Json::error_handler_t::replace));
    return;
  }
  fmt::print("{}: GGUF v{}, {}\n\n", path, file.version(),
             human_bytes(static_cast<double>(file.total_bytes())));
  for (std::size_t i = 0; i < file.metadata_count(); ++i)
    fmt::print("  {:<44} {}\n", file.key(i), text_of(file.value(i)));
  fmt::print("\n  {:<36} {:<8} {:>20} {:>12}\n", "tensor", "type", "columns x rows", "size");
  for (const gguf::Tensor& t : file.tensors())
    fmt::print("  {:<36} {:<8} {:>20} {:>12}\n", t.name, type_info(t.type).name, shape_of(t),
               human_bytes(static_cast<double>(t.data.size())));
  fmt::print("\n  {:<8} {:>8} {:>16} {:>12} {:>8}\n", "type", "tensors", "weights", "size",
             "share");
  for (const auto& [name, t] : by_type)
    fmt::print("  {:<8} {:>8} {:>16} {:>12} {:>7.1f}%\n", name, t.tensors, t.weights,
               human_bytes(static_cast<double>(t.bytes)),
               100.0 * static_cast<double>(t.bytes) / static_cast<double>(all.bytes));
  fmt::print("  {:<8} {:>8} {:>16} {:>12} {:>8}\n\n  {:.4f} bits per weight\n", "all", all.tensors,
             all.weights, human_bytes(static_cast<double>(all.bytes)), "", all.bits());
}

}  // namespace

void add_inspect(CLI::App& app) {
  struct Options {
    std::string model;
    bool json = false;
  };
  const auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "inspect", "Metadata, tensors, types, sizes, bits per weight of a GGUF file");
  command->add_option("MODEL", o->model, "GGUF file (of a split model: its first)")->required();
  command->add_flag("--json", o->json, "Everything as JSON");
  command->footer("Example:\n  kquant inspect model.gguf --json | jq .bits_per_weight");
  command->callback([o] { inspect(o->model, o->json); });
}

}  // namespace kquant::cli
