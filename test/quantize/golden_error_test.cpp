// The error of quantized weights against the reference encoder's on the same rows.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>

#include "shared_data.hpp"
#include "weights.hpp"

using namespace kquant;

namespace {

constexpr std::size_t kCols = 1024;

struct Reference {
  TensorType type;
  bool with_importance;
  std::string group;
  double plain, weighted;
};

/// Rows of errors.csv whose type this library can write; empty where the data is absent.
std::vector<Reference> references() {
  std::vector<Reference> all;
  const auto path = test::shared_path("golden/errors.csv");
  if (!path) return all;
  std::istringstream lines(test::read_text(*path));
  std::string line;
  std::getline(lines, line);
  REQUIRE(line == "type,imatrix,rows,rel_rmse,weighted_rel_rmse");
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string name, imatrix, group, plain, weighted;
    for (std::string* field : {&name, &imatrix, &group, &plain, &weighted})
      std::getline(fields, *field, ',');
    const TypeInfo* info = find_type(name);
    REQUIRE(info);
    if (can_quantize(info->type))
      all.push_back({info->type, imatrix == "1", group, std::stod(plain), std::stod(weighted)});
  }
  return all;
}

/// Eight rows a group, in the file's order; the first three of "scales" underflow binary16.
std::vector<float> rows_of(const std::string& group, const std::vector<float>& input) {
  const std::vector<std::string> order = {"gaussian", "heavy",      "uniform",
                                          "outliers", "structured", "scales"};
  const auto at =
      static_cast<std::size_t>(std::find(order.begin(), order.end(), group) - order.begin());
  REQUIRE(at < order.size());
  const std::size_t skipped = group == "scales" ? 3 : 0;
  const auto row = [&](std::size_t r) {
    return input.begin() + static_cast<std::ptrdiff_t>(r * kCols);
  };
  return {row(8 * at + skipped), row(8 * at + 8)};
}

}  // namespace

TEST_CASE("no type, group or kind of error is worse than the reference encoder's") {
  const auto all = references();
  if (all.empty()) return;
  const auto input = test::read_floats(*test::shared_path("golden/input.f32"));
  const auto importance = test::read_floats(*test::shared_path("golden/imatrix.f32"));
  std::map<TensorType, std::pair<double, int>> weighted_unasked;
  for (const Reference& reference : all) {
    QuantizeOptions options;
    if (reference.with_importance) options.importance = importance;
    const auto x = rows_of(reference.group, input);
    const auto error = test::error_of(reference.type, x, kCols, options, importance);
    INFO(type_info(reference.type).name << " " << reference.group << ", importance "
                                        << reference.with_importance);
    CHECK(error.rel_rmse() <= 1.01 * reference.plain);
    if (reference.with_importance) {
      CHECK(error.weighted_rel_rmse() <= 1.01 * reference.weighted);
    } else if (type_info(reference.type).support == Support::kBlock) {
      // Weights that neither encoder was told of: which one happens to suit a few heavy columns of
      // one group is chance, so only the mean over the groups is held against the reference.
      auto& [log_sum, n] = weighted_unasked[reference.type];
      log_sum += std::log(error.weighted_rel_rmse() / reference.weighted);
      ++n;
    }
  }
  for (const auto& [type, mean] : weighted_unasked) {
    INFO(type_info(type).name);
    CHECK(mean.first / mean.second <= std::log(1.01));
  }
}

TEST_CASE("weights that were quantized before lose little when quantized again") {
  const auto all = references();
  if (all.empty()) return;
  for (const Reference& reference : all) {
    if (reference.with_importance || type_info(reference.type).support != Support::kBlock) continue;
    const std::string_view name = type_info(reference.type).name;
    INFO(name << " " << reference.group);
    std::string stem(name);
    for (char& c : stem) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    const auto x = test::read_floats(*test::shared_path("golden/" + stem + ".dequant.f32"));
    const auto again = test::error_of(reference.type, rows_of(reference.group, x), kCols);
    // Independent errors add as squares: a third of the first error makes 5% more of it.
    CHECK(again.rel_rmse() <= 0.33 * reference.plain);
  }
}
