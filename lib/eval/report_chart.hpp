#pragma once
// Charts as SVG text, without scripts; colours come from the page (or the file's own style).

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eval/report_data.hpp"

namespace kquant {

/// A value at each level that has one.
struct ChartPoint {
  std::string level;
  double bits = 0, value = 0, low = 0, high = 0;  ///< low, high: the band
  bool marked = false;                            ///< the recommended level
};

struct Chart {
  std::string title, unit;
  std::vector<ChartPoint> points;   ///< by bits
  std::optional<double> reference;  ///< a line across
  bool logarithmic = false;
};

/// All charts of a model: accuracy of each task, divergence, perplexity.
std::vector<Chart> charts_of(const Report& report, const ReportModel& model);

/// One chart as a whole <svg>.
std::string draw(const Chart& chart);
/// All of them side by side as a file of its own, light or dark as its reader.
std::string draw_sheet(const std::string& title, const std::vector<Chart>& charts);

/// Rules that both need, on the variables --ink, --quiet, --grid, --line, --band, --mark.
extern const std::string_view kChartStyle;
/// The variables themselves, light and dark, for `selector`.
std::string chart_colours(std::string_view selector);

std::string escaped(std::string_view text);

}  // namespace kquant
