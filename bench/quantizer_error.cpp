// How far quantized weights are from the original, beside the reference encoder's distance.
//
//     quantizer_error GOLDEN_DIR
//
// GOLDEN_DIR holds input.f32 (48 rows x 1024, six groups of eight rows), imatrix.f32 and errors.csv
// (the reference: type,imatrix,rows,rel_rmse,weighted_rel_rmse). Prints ours / reference; below 1
// is better.

#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "kquant/format/all.hpp"
#include "kquant/quantize.hpp"

namespace {

using namespace kquant;

constexpr std::size_t kCols = 1024, kRowsPerGroup = 8;
constexpr std::array<const char*, 6> kGroups = {"gaussian", "heavy",      "uniform",
                                                "outliers", "structured", "scales"};

std::vector<float> read_floats(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<float> values(bytes.size() / sizeof(float));
  std::copy_n(bytes.data(), values.size() * sizeof(float), reinterpret_cast<char*>(values.data()));
  return values;
}

int print_ratios(const std::filesystem::path& golden) {
  const auto input = read_floats(golden / "input.f32");
  const auto importance = read_floats(golden / "imatrix.f32");
  std::ifstream table(golden / "errors.csv");
  if (input.size() != kGroups.size() * kRowsPerGroup * kCols || importance.size() != kCols ||
      !table) {
    fmt::print(stderr, "{}: input.f32, imatrix.f32 or errors.csv is missing or short\n",
               golden.string());
    return 1;
  }
  fmt::print(
      "| type | imatrix | rows | ours | reference | ratio | ours, weighted | reference | ratio |\n"
      "|---|---|---|---|---|---|---|---|---|\n");
  double worst = 0;
  std::string line;
  std::getline(table, line);
  while (std::getline(table, line)) {
    std::istringstream fields(line);
    std::string name, imatrix, group, plain, weighted;
    for (std::string* field : {&name, &imatrix, &group, &plain, &weighted})
      std::getline(fields, *field, ',');
    const TypeInfo* info = find_type(name);
    if (!info || info->support != Support::kBlock) continue;
    std::size_t first = 0;
    while (kGroups[first] != group) ++first;
    first *= kRowsPerGroup;
    std::size_t rows = kRowsPerGroup;
    if (group == "scales") first += 3, rows -= 3;  // those three underflow the reference's f16
    const Span2d<const float> x(input.data() + first * kCols, rows, kCols);
    std::vector<std::byte> packed(rows * row_bytes(info->type, kCols));
    QuantizeOptions options;
    if (imatrix == "1") options.importance = importance;
    if (const auto ok = quantize(info->type, x, packed, options); !ok) {
      fmt::print(stderr, "{}\n", ok.error().message);
      return 1;
    }
    const auto error =
        measure_error(info->type, x, packed, {.importance = importance, .threads = 0});
    const double reference[] = {std::stod(plain), std::stod(weighted)};
    const double ours[] = {error->rel_rmse(), error->weighted_rel_rmse()};
    fmt::print("| {} | {} | {} | {:.6f} | {:.6f} | {:.4f} | {:.6f} | {:.6f} | {:.4f} |\n",
               info->name, imatrix, group, ours[0], reference[0], ours[0] / reference[0], ours[1],
               reference[1], ours[1] / reference[1]);
    for (int i : {0, 1}) worst = std::max(worst, ours[i] / reference[i]);
  }
  fmt::print("\nworst ratio: {:.4f}\n", worst);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: quantizer_error GOLDEN_DIR\n");
    return 2;
  }
  return print_ratios(argv[1]);
}
