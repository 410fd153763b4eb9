#pragma once
// The benchmarks behind Benchmark::load().

#include "kquant/eval/task.hpp"

namespace kquant {

using BenchmarkResult = Result<std::unique_ptr<Benchmark>>;
BenchmarkResult load_mmlu_pro(const std::filesystem::path& data,
                              const std::filesystem::path& shots);
BenchmarkResult load_cruxeval(Task task, const std::filesystem::path& data,
                              const std::filesystem::path& shots);
BenchmarkResult load_musr(const std::filesystem::path& data, const std::filesystem::path& shots);

}  // namespace kquant
