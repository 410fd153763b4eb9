#pragma once
// A report's tables, once: as HTML and as Markdown they say the same.

#include <string>
#include <vector>

#include "eval/report_data.hpp"

namespace kquant {

struct ReportTable {
  std::string caption;
  std::vector<std::string> head;  ///< the first column is text, the others are numbers
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> notes;
  std::optional<std::size_t> marked;  ///< the recommended row
};

/// Size, speed, perplexity and divergence; then a table for each benchmark; then its categories.
std::vector<ReportTable> tables_of(const Report& report, const ReportModel& model);

std::string html(const ReportTable& table);
std::string markdown(const ReportTable& table);

/// One line a model, level and measure, for other programs.
std::string csv(const Report& report);

}  // namespace kquant
