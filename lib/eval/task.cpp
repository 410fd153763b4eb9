#include "kquant/eval/task.hpp"

#include <fmt/format.h>

#include <unordered_set>

#include "eval/benchmarks.hpp"

namespace kquant {
namespace {

template <class T>
struct Named {
  T value;
  std::string_view name;
};
constexpr Named<Task> kTaskNames[] = {{Task::kMmluPro, "mmlu-pro"},
                                      {Task::kCruxevalO, "cruxeval-o"},
                                      {Task::kCruxevalI, "cruxeval-i"},
                                      {Task::kMusr, "musr"}};
constexpr Named<Mode> kModeNames[] = {{Mode::kDirect, "direct"},
                                      {Mode::kCot, "cot"},
                                      {Mode::kCotPlus, "cot+"},
                                      {Mode::kLoglik, "loglik"}};
constexpr Named<MmluProRules> kRuleNames[] = {
    {MmluProRules::k1, "1"}, {MmluProRules::k12, "12"}, {MmluProRules::k123, "123"}};

template <class T, std::size_t N>
Result<T> find(const Named<T> (&names)[N], std::string_view what, std::string_view name) {
  std::string known;
  for (const Named<T>& entry : names) {
    if (entry.name == name) return entry.value;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", entry.name);
  }
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("{}: found '{}', expected one of {}", what, name, known));
}

template <class T, std::size_t N>
std::string_view name_of(const Named<T> (&names)[N], T value) {
  for (const Named<T>& entry : names)
    if (entry.value == value) return entry.name;
  return {};
}

BenchmarkResult load_any(Task task, const std::filesystem::path& data,
                         const std::filesystem::path& shots) {
  switch (task) {
    case Task::kMmluPro:
      return load_mmlu_pro(data, shots);
    case Task::kCruxevalO:
    case Task::kCruxevalI:
      return load_cruxeval(task, data, shots);
    case Task::kMusr:
      return load_musr(data, shots);
  }
  return fail(ErrorCode::kInvalidArgument, "no such task");
}

}  // namespace

std::string_view name(Task task) {
  return name_of(kTaskNames, task);
}
Result<Task> find_task(std::string_view name) {
  return find(kTaskNames, "task", name);
}
std::string_view name(Mode mode) {
  return name_of(kModeNames, mode);
}
Result<Mode> find_mode(std::string_view name) {
  return find(kModeNames, "mode", name);
}
std::string_view name(MmluProRules rules) {
  return name_of(kRuleNames, rules);
}
Result<MmluProRules> find_mmlu_pro_rules(std::string_view name) {
  return find(kRuleNames, "rules", name);
}

Result<std::unique_ptr<Benchmark>> Benchmark::load(Task task, const std::filesystem::path& data,
                                                   const std::filesystem::path& shots) {
  auto benchmark = load_any(task, data, shots);
  if (!benchmark) {
    if (benchmark.error().code == ErrorCode::kBadFile)
      return fail(ErrorCode::kBadFile, fmt::format("{} (expected a file for the task {})",
                                                   benchmark.error().message, name(task)));
    return benchmark;
  }
  if ((*benchmark)->size() == 0)
    return fail(ErrorCode::kBadFile, fmt::format("{}: has no items", data.string()));
  std::unordered_set<std::string_view> seen;
  for (std::size_t i = 0; i < (*benchmark)->size(); ++i)
    if (!seen.insert((*benchmark)->id(i)).second)
      return fail(ErrorCode::kBadFile, fmt::format("{}: two items have the id '{}'", data.string(),
                                                   (*benchmark)->id(i)));
  return benchmark;
}

}  // namespace kquant
