#pragma once
// A study as a page: what each level costs in answers, in bytes and in speed.

#include <filesystem>

#include "kquant/base/error.hpp"

namespace kquant {

/// Reads a study's folder and writes there report.html (self-contained: inline SVG, no scripts),
/// report.md, report.csv and for each model its charts as report-MODEL.svg. Cells that are not
/// measured yet are left out, and said to be missing.
/// Errors: kNotFound (no study in the folder), kIo, kBadFile.
Result<void> write_report(const std::filesystem::path& folder);

}  // namespace kquant
