#include "kquant/eval/report.hpp"

#include <fmt/format.h>

#include "eval/report_chart.hpp"
#include "eval/report_tables.hpp"
#include "eval/whole_file.hpp"

namespace kquant {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPageStyle =
    "body{margin:0 auto;max-width:1200px;padding:24px "
    "16px;background:var(--paper);color:var(--ink);"
    "font:16px/1.5 system-ui,sans-serif}h1{font-size:1.6rem;line-height:1.25}h2{margin-top:2.5rem;"
    "border-bottom:1px solid var(--grid);padding-bottom:.3rem}h3{margin:2rem 0 .5rem}"
    ".advice{background:var(--panel);border-left:4px solid var(--mark);padding:.8rem 1rem;"
    "border-radius:4px}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(340px,"
    "100%),1fr));gap:12px}.charts svg{width:100%;height:auto}.wide{overflow-x:auto}"
    "table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}"
    "th,td{padding:.35rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid "
    "var(--grid)}th{color:var(--quiet);font-weight:600;white-space:normal;vertical-align:bottom}th:"
    "first-child,td:first-child{text-align:"
    "left;"
    "position:sticky;left:0;background:var(--paper)}tr.marked td:first-child{color:var(--mark);"
    "font-weight:600}.note{color:var(--quiet);font-size:.85rem;margin:.4rem 0}";

constexpr std::string_view kReading =
    "Bands are 95 % bootstrap intervals over items. Levels are compared with the reference in "
    "pairs, "
    "item by item, which sees far smaller differences than the bands: McNemar's p is the chance of "
    "flips as uneven as these if the level changed nothing. \"Within the noise\" means that no "
    "benchmark tells the level, or a larger one, from the reference at p = 0.05 shared among them; "
    "with few items that is a weak claim. A level whose perplexity is surely more than 2 % worse "
    "is not "
    "recommended either. Bits a weight are drawn on a logarithmic scale.";

std::string page(const Report& report) {
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta "
      "name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\">\n<meta name=\"color-scheme\" "
      "content=\"light "
      "dark\">\n<title>{0}</title>\n<style>{1}{2}{3}</style>\n</head>\n<body>\n<h1>{0}</h1>\n",
      escaped(report.title), chart_colours(":root"), kPageStyle, kChartStyle);
  for (const ReportModel& model : report.models) {
    out += fmt::format("<h2>{}</h2>\n<p class=\"advice\">{}</p>\n<div class=\"charts\">\n",
                       escaped(model.name), escaped(model.advice));
    for (const Chart& chart : charts_of(report, model)) out += draw(chart);
    out += "</div>\n";
    for (const ReportTable& table : tables_of(report, model)) out += html(table);
  }
  if (!report.missing.empty()) {
    out += "<h2>Not measured yet</h2>\n<ul>\n";
    for (const std::string& cell : report.missing) out += "<li>" + escaped(cell) + "</li>\n";
    out += "</ul>\n";
  }
  return out +
         fmt::format("<h2>How to read this</h2>\n<p>{}</p>\n</body>\n</html>\n", escaped(kReading));
}

std::string text(const Report& report) {
  std::string out = fmt::format("# {}\n\n", report.title);
  for (const ReportModel& model : report.models) {
    out += fmt::format("## {}\n\n{}\n\n![{}](report-{}.svg)\n\n", model.name, model.advice,
                       model.name, model.name);
    for (const ReportTable& table : tables_of(report, model)) out += markdown(table);
  }
  if (!report.missing.empty()) {
    out += "## Not measured yet\n\n";
    for (const std::string& cell : report.missing) out += "- " + cell + "\n";
    out += "\n";
  }
  return out + fmt::format("## How to read this\n\n{}\n", kReading);
}

}  // namespace

Result<void> write_report(const fs::path& folder) {
  const auto report = gather_report(folder);
  if (!report) return fail(report.error());
  if (auto written = write_whole(folder / "report.html", page(*report)); !written) return written;
  if (auto written = write_whole(folder / "report.md", text(*report)); !written) return written;
  if (auto written = write_whole(folder / "report.csv", csv(*report)); !written) return written;
  for (const ReportModel& model : report->models) {
    const auto charts = charts_of(*report, model);
    if (charts.empty()) continue;
    const std::string title = fmt::format(
        "{}. {}", model.name, model.advice.substr(0, model.advice.find(". ") + 1));  // one line
    if (auto written = write_whole(folder / fmt::format("report-{}.svg", model.name),
                                   draw_sheet(title, charts));
        !written)
      return written;
  }
  return {};
}

}  // namespace kquant
