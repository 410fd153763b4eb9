#include "eval/report_chart.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace kquant {

const std::string_view kChartStyle =
    ".chart text{font:12px system-ui,sans-serif;fill:var(--quiet)}"
    ".chart .title{font-size:14px;font-weight:600;fill:var(--ink)}"
    ".chart .grid{stroke:var(--grid);stroke-width:1}"
    ".chart .tick{stroke:var(--quiet);stroke-width:1;opacity:.6}"
    ".chart .recommended{fill:var(--mark);font-weight:600}"
    ".chart .reference{stroke:var(--quiet);stroke-width:1.2;stroke-dasharray:5 4}"
    ".chart .curve{fill:none;stroke:var(--line);stroke-width:2.2;stroke-linejoin:round}"
    ".chart .band{fill:var(--band);stroke:none}"
    ".chart .dot{fill:var(--line);stroke:var(--paper);stroke-width:1.5}"
    ".chart .marked{fill:var(--mark)}";

namespace {

constexpr double kWidth = 380, kHeight = 280;
constexpr double kLeft = 56, kRight = 16, kTop = 44, kBottom = 62;

struct Scale {
  double low, high, from, to;
  bool logarithmic = false;
  double operator()(double v) const {
    const double x = logarithmic ? (std::log(v) - std::log(low)) / (std::log(high) - std::log(low))
                                 : (v - low) / (high - low);
    return from + x * (to - from);
  }
};

/// About five round values from low to high.
std::vector<double> ticks(const Scale& scale) {
  std::vector<double> out;
  if (scale.logarithmic) {
    for (double v = std::pow(10, std::ceil(std::log10(scale.low) - 1e-9)); v <= scale.high * 1.0001;
         v *= 10)
      out.push_back(v);
    return out;
  }
  const double rough = (scale.high - scale.low) / 4,
               power = std::pow(10, std::floor(std::log10(rough)));
  double step = power;
  for (const double times : {2.0, 5.0, 10.0})
    if (step < rough * 0.75) step = power * times;
  for (double v = std::ceil(scale.low / step - 1e-9) * step; v <= scale.high + step * 1e-6;
       v += step)
    out.push_back(v);
  return out;
}

Scale value_scale(const Chart& chart) {
  double low = 1e300, high = -1e300;
  for (const ChartPoint& p : chart.points) {
    low = std::min({low, p.low, p.value});
    high = std::max({high, p.high, p.value});
  }
  if (chart.reference) {
    low = std::min(low, *chart.reference);
    high = std::max(high, *chart.reference);
  }
  const double bottom = kHeight - kBottom, top = kTop;
  if (chart.logarithmic) {
    low = std::pow(10, std::floor(std::log10(std::max(low, 1e-9))));
    high = std::pow(10, std::ceil(std::log10(std::max(high, low * 10))));
    return {low, high, bottom, top, true};
  }
  const double margin = std::max((high - low) * 0.08, std::abs(high) * 1e-3 + 1e-6);
  return {low - margin, high + margin, bottom, top};
}

Scale bits_scale(const Chart& chart) {
  const double low = chart.points.front().bits, high = chart.points.back().bits;
  return {low / 1.08, std::max(high, low * 1.01) * 1.08, kLeft, kWidth - kRight, true};
}

/// Where the levels' names end: below their points, moved aside where two would overlap.
std::vector<double> label_places(const std::vector<ChartPoint>& points, const Scale& x) {
  constexpr double kApart = 18;  // lines of 12 pixels at 45 degrees
  std::vector<double> places;
  for (const ChartPoint& p : points)
    places.push_back(places.empty() ? x(p.bits) : std::max(x(p.bits), places.back() + kApart));
  double most = kWidth - kRight;
  for (auto at = places.rbegin(); at != places.rend(); ++at) {
    double& place = *at;
    place = std::min(place, most);
    most = place - kApart;
  }
  return places;
}

/// As people write it: no exponents where a few zeros do.
std::string tick_text(double value) {
  const double digits = std::ceil(-std::log10(std::abs(value)) - 1e-9);
  if (value != 0 && digits > 3 && digits < 8)
    return fmt::format("{:.{}f}", value, static_cast<int>(digits));
  return fmt::format("{:.6g}", value);
}

std::string body(const Chart& chart) {
  std::string out =
      fmt::format("<text class=\"title\" x=\"8\" y=\"20\">{}</text>\n", escaped(chart.title));
  const Scale x = bits_scale(chart), y = value_scale(chart);
  for (const double v : ticks(y)) {
    out += fmt::format("<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>",
                       kLeft, kWidth - kRight, y(v));
    out += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}{}</text>\n", kLeft - 6,
                       y(v) + 4, tick_text(v), chart.unit);
  }
  if (chart.reference)
    out += fmt::format(
        "<line class=\"reference\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\"/>\n", kLeft,
        kWidth - kRight, y(*chart.reference));
  const bool banded = std::ranges::any_of(chart.points, [](auto& p) { return p.high > p.low; });
  if (banded && chart.points.size() > 1) {
    std::string forth, back;
    for (const ChartPoint& p : chart.points) {
      forth += fmt::format("{:.1f},{:.1f} ", x(p.bits), y(p.high));
      back = fmt::format("{:.1f},{:.1f} ", x(p.bits),
                         y(std::max(p.low, y.logarithmic ? y.low : p.low))) +
             back;
    }
    out += fmt::format("<polygon class=\"band\" points=\"{}{}\"/>\n", forth, back);
  }
  std::string curve;
  for (const ChartPoint& p : chart.points)
    curve += fmt::format("{:.1f},{:.1f} ", x(p.bits), y(p.value));
  out += fmt::format("<polyline class=\"curve\" points=\"{}\"/>\n", curve);
  const std::vector<double> labels = label_places(chart.points, x);
  for (std::size_t i = 0; i < chart.points.size(); ++i) {
    const ChartPoint& p = chart.points[i];
    out += fmt::format(
        "<circle class=\"dot{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\"><title>{}: {:.2f} bits, "
        "{:.5g}{}</title></circle>\n",
        p.marked ? " marked" : "", x(p.bits), y(p.value), escaped(p.level), p.bits, p.value,
        chart.unit);
    const double bottom = kHeight - kBottom;
    out += fmt::format(
        "<line class=\"tick\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text{} text-anchor=\"end\" transform=\"translate({:.1f} {:.1f}) "
        "rotate(-45)\">{}</text>\n",
        x(p.bits), bottom, labels[i], bottom + 8, p.marked ? " class=\"recommended\"" : "",
        labels[i] + 4, bottom + 18, escaped(p.level));
  }
  return out;
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

std::string chart_colours(std::string_view selector) {
  return fmt::format(
      "{0}{{--paper:#fff;--ink:#1b1f24;--quiet:#59636e;--grid:#e4e7eb;--line:#2563c9;--band:#"
      "2563c92b;"
      "--mark:#c2410c;--panel:#f6f7f9}}"
      "@media(prefers-color-scheme:dark){{{0}{{--paper:#14171b;--ink:#e8eaed;--quiet:#a3adb8;"
      "--grid:#2e343b;--line:#7db0ff;--band:#7db0ff30;--mark:#ffa25e;--panel:#1c2026}}}}",
      selector);
}

std::vector<Chart> charts_of(const Report& report, const ReportModel& model) {
  std::vector<Chart> charts;
  const auto marked = [&](std::size_t i) { return model.recommended == i; };
  for (const ReportTask& task : report.tasks) {
    Chart chart{
        fmt::format("{}{}, %", task.name, task.is_code() ? " pass@1" : " accuracy"), "", {}, {}};
    for (std::size_t i = 0; i < model.levels.size(); ++i) {
      const ReportLevel& level = model.levels[i];
      const auto cell = level.cells.find(task.name);
      if (cell == level.cells.end()) continue;
      const Summary& s = cell->second.summary;
      chart.points.push_back({level.name, level.facts->bits_per_weight, 100 * s.accuracy,
                              100 * s.interval.low, 100 * s.interval.high, marked(i)});
      if (model.reference == i) chart.reference = 100 * s.accuracy;
    }
    if (!chart.points.empty()) charts.push_back(std::move(chart));
  }
  Chart divergence{"KL divergence, nats a token", "", {}, {}, true},
      perplexity{"perplexity", "", {}, {}};
  for (std::size_t i = 0; i < model.levels.size(); ++i) {
    const ReportLevel& level = model.levels[i];
    if (!level.text) continue;
    const double bits = level.facts->bits_per_weight, ppl = level.text->perplexity;
    perplexity.points.push_back({level.name, bits, ppl, ppl, ppl, marked(i)});
    if (model.reference == i) perplexity.reference = ppl;
    if (const auto& d = level.text->divergence; d && d->kl.mean > 0)
      divergence.points.push_back({level.name, bits, d->kl.mean, d->kl.mean - 1.96 * d->kl.error,
                                   d->kl.mean + 1.96 * d->kl.error, marked(i)});
  }
  if (!divergence.points.empty()) charts.push_back(std::move(divergence));
  if (!perplexity.points.empty()) charts.push_back(std::move(perplexity));
  return charts;
}

std::string draw(const Chart& chart) {
  return fmt::format(
      "<svg class=\"chart\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" "
      "role=\"img\" "
      "aria-label=\"{}\">\n{}</svg>\n",
      kWidth, kHeight, escaped(chart.title), body(chart));
}

std::string draw_sheet(const std::string& title, const std::vector<Chart>& charts) {
  constexpr std::size_t kColumns = 3;
  constexpr double kGap = 12, kHead = 44;
  const auto columns =
      static_cast<double>(std::min(kColumns, std::max<std::size_t>(charts.size(), 1)));
  const auto rows = static_cast<double>((charts.size() + kColumns - 1) / kColumns);
  const double width = columns * (kWidth + kGap) + kGap;
  const double height = kHead + rows * (kHeight + kGap);
  std::string out = fmt::format(
      "<svg class=\"chart\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" "
      "role=\"img\" "
      "aria-label=\"{2}\">\n<style>{3}{4}.chart .heading{{font-size:18px;font-weight:600;"
      "fill:var(--ink)}}</style>\n<rect width=\"{0}\" height=\"{1}\" rx=\"8\" "
      "style=\"fill:var(--paper)\"/>\n<text class=\"heading\" x=\"{5}\" y=\"30\">{2}</text>\n",
      width, height, escaped(title), chart_colours(".chart"), kChartStyle, kGap + 8);
  for (std::size_t i = 0; i < charts.size(); ++i)
    out +=
        fmt::format("<g transform=\"translate({} {})\">\n{}</g>\n",
                    kGap + static_cast<double>(i % kColumns) * (kWidth + kGap),
                    kHead + static_cast<double>(i / kColumns) * (kHeight + kGap), body(charts[i]));
  return out + "</svg>\n";
}

}  // namespace kquant
