// kquant report: what a study found, as a page.

#include <fmt/format.h>

#include <memory>

#include "commands.hpp"
#include "kquant/eval/report.hpp"

namespace kquant::cli {

void add_report(CLI::App& app) {
  const auto folder = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("report", "A study as HTML, Markdown, CSV and SVG");
  command->add_option("DIR", *folder, "Folder of a study")->required();
  command->footer("Example:\n  kquant report results    # results/report.html");
  command->callback([folder] {
    check(write_report(*folder));
    fmt::print("{0}/report.html, report.md, report.csv and report-MODEL.svg written\n", *folder);
  });
}

}  // namespace kquant::cli
