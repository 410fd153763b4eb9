#include "kquant/eval/plan_file.hpp"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "eval/whole_file.hpp"

namespace kquant {

Result<void> write_plan(const std::filesystem::path& path, const TypePlan& plan,
                        double bits_per_weight) {
  nlohmann::ordered_json json = {{"bits_per_weight", bits_per_weight},
                                 {"tensors", nlohmann::ordered_json::object()}};
  for (const auto& [name, type] : plan) json["tensors"][name] = type_info(type).name;
  return write_whole(
      path, json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

Result<TypePlan> read_plan(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    return fail(ErrorCode::kNotFound, fmt::format("{}: no such file", path.string()));
  std::ifstream in(path);
  if (!in || std::filesystem::is_directory(path, ignored))
    return fail(ErrorCode::kIo, fmt::format("{}: cannot open", path.string()));
  const auto wrong = [&](const std::string& what) {
    return fail(ErrorCode::kBadFile, fmt::format("{}: {}", path.string(), what));
  };
  const auto json = nlohmann::json::parse(in, nullptr, false);
  if (json.is_discarded()) return wrong("not JSON");
  if (!json.is_object() || !json.contains("tensors") || !json["tensors"].is_object())
    return wrong("no object \"tensors\" of names and types");
  TypePlan plan;
  for (const auto& [name, value] : json["tensors"].items()) {
    const TypeInfo* info = value.is_string()
                               ? find_type(std::string_view(value.get_ref<const std::string&>()))
                               : nullptr;
    if (!info)
      return wrong(
          fmt::format("tensor '{}': {} is no type", name,
                      value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
    plan[name] = info->type;
  }
  return plan;
}

}  // namespace kquant
