#include "chart.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "kquant/base/atomic_file.hpp"

namespace {

constexpr double kWidth = 960, kPanelWidth = 400, kPanelHeight = 330, kTop = 64, kLeft = 64,
                 kGap = 76;

constexpr const char* kStyle = R"(<style>
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .label { font-size: 11px } .title { font-size: 17px; font-weight: 600 } .axis { fill: #57606a }
  .grid { stroke: #d0d7de; stroke-width: 1 } .curve { stroke: #0969da; stroke-width: 2; fill: none }
  .band { stroke: #0969da; stroke-width: 2; stroke-opacity: .45 } .dot { fill: #0969da } .paper { fill: #ffffff }
  .curve.old, .band.old { stroke: #bc4c00 } .dot.old { fill: #bc4c00 }
  .reference { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 5 4 } .referencelabel { fill: #cf222e }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .axis { fill: #9198a1 } .grid { stroke: #30363d } .paper { fill: #0d1117 }
    .curve, .band { stroke: #58a6ff } .dot { fill: #58a6ff }
    .curve.old, .band.old { stroke: #f0883e } .dot.old { fill: #f0883e } .reference { stroke: #ff7b72 } .referencelabel { fill: #ff7b72 }
  }
</style>
)";

/// Maps a range of values onto pixels, linearly or by logarithm.
struct Axis {
  double low, high, from, to;
  bool logarithmic = false;
  double operator()(double value) const {
    const auto f = [this](double v) { return logarithmic ? std::log10(v) : v; };
    return from + (to - from) * (f(value) - f(low)) / (f(high) - f(low));
  }
};

/// A round step (1, 2 or 5 times a power of ten) that gives about `n` ticks.
double tick_step(double range, int n) {
  const double raw = range / n, power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (raw <= factor * power) return factor * power;
  return 10 * power;
}

std::vector<double> ticks(const Axis& axis) {
  std::vector<double> values;
  if (axis.logarithmic) {
    for (double v = std::pow(10.0, std::ceil(std::log10(axis.low) - 1e-9)); v <= axis.high * 1.0001;
         v *= 10)
      values.push_back(v);
  } else {
    const double step = tick_step(axis.high - axis.low, 6);
    for (double v = std::ceil(axis.low / step) * step; v <= axis.high + step * 1e-6; v += step)
      values.push_back(v);
  }
  return values;
}

/// Q4_0 … Q5_1: blocks of 32 weights with their own scale, from before the k-quants.
bool is_old(const ChartPoint& p) {
  return p.label.find("_K") == std::string::npos && p.label != "Q8_0";
}

struct Panel {
  std::string svg;
  Axis x, y;

  void text(double at_x, double at_y, const std::string& content, const char* style,
            const char* anchor = "middle") {
    svg +=
        fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\" text-anchor=\"{}\">{}</text>\n",
                    at_x, at_y, style, anchor, content);
  }
  void line(double x1, double y1, double x2, double y2, const char* style) {
    svg += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1,
        x2, y2, style);
  }

  void frame(const std::string& caption) {
    text(x.from, kTop - 14, caption, "axis", "start");
    for (const double v : ticks(y)) {
      line(x.from, y(v), x.to, y(v), "grid");
      text(x.from - 8, y(v) + 4, fmt::format("{:g}", v), "axis", "end");
    }
    for (const double v : ticks(x)) {
      line(x(v), y.from, x(v), y.from + 5, "grid");
      text(x(v), y.from + 20, fmt::format("{:g}", v), "axis");
    }
    text((x.from + x.to) / 2, y.from + 40, "bits per weight", "axis");
  }

  /// Points by rising x. One kind is labelled above its curve and the other below: neighbours of
  /// one kind are far enough apart for that.
  void curve(std::span<const ChartPoint> points, bool old, bool above, double ChartPoint::*value,
             double ChartPoint::*error) {
    const char* kind = old ? " old" : "";
    std::string path;
    for (const ChartPoint& p : points) {
      if (is_old(p) != old) continue;
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : " L", x(p.bits_per_weight),
                          y(p.*value));
    }
    svg += fmt::format("<path d=\"{}\" class=\"curve{}\"/>\n", path, kind);
    double label = -1e9;
    for (const ChartPoint& p : points) {
      if (is_old(p) != old) continue;
      const double px = x(p.bits_per_weight), py = y(p.*value);
      label = std::max(px, label + 14);  // moved aside where two would overlap
      if (error != nullptr)
        line(px, y(std::max(p.*value - 2 * p.*error, y.low)), px, y(p.*value + 2 * p.*error),
             old ? "band old" : "band");
      svg += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" class=\"dot{}\"><title>{}: {:.3f} bits, "
          "{:.5f}</title></circle>\n",
          px, py, kind, p.label, p.bits_per_weight, p.*value);
      svg += fmt::format(
          "<text class=\"label\" text-anchor=\"{}\" transform=\"translate({:.1f} {:.1f}) "
          "rotate(-60)\">{}</text>\n",
          above ? "start" : "end", label + (above ? 4 : 2), above ? py - 8 : py + 9, p.label);
    }
  }
  void curves(std::span<const ChartPoint> points, bool old_above, double ChartPoint::*value,
              double ChartPoint::*error) {
    curve(points, true, old_above, value, error);
    curve(points, false, !old_above, value, error);
  }
};

}  // namespace

kquant::Result<void> write_chart(const std::filesystem::path& path, const std::string& title,
                                 const std::vector<ChartPoint>& given,
                                 double reference_perplexity) {
  std::vector<ChartPoint> points = given;
  if (points.empty())
    return kquant::fail(kquant::ErrorCode::kInvalidArgument, "a chart needs at least one point");
  std::sort(points.begin(), points.end(),
            [](const auto& a, const auto& b) { return a.bits_per_weight < b.bits_per_weight; });
  const auto [kl_low, kl_high] = std::minmax_element(
      points.begin(), points.end(),
      [](const auto& a, const auto& b) { return a.kl_divergence < b.kl_divergence; });
  const auto [ppl_low, ppl_high] =
      std::minmax_element(points.begin(), points.end(),
                          [](const auto& a, const auto& b) { return a.perplexity < b.perplexity; });
  const double bottom = kTop + kPanelHeight;
  const double low_bits = std::floor(points.front().bits_per_weight - 0.5),
               high_bits = std::ceil(points.back().bits_per_weight + 0.2);
  // The least KL of all may be a rounding error's; the axis starts at a power of ten below it.
  const double kl_floor =
      std::pow(10.0, std::floor(std::log10(std::max(kl_low->kl_divergence, 1e-9))));
  const double kl_ceiling =
      std::pow(10.0, std::ceil(std::log10(std::max(kl_high->kl_divergence, 1e-8) * 1.5)));
  const double ppl_base = std::min(reference_perplexity, ppl_low->perplexity);
  const double margin = 0.2 * std::max(ppl_high->perplexity - ppl_base, 1e-6);

  Panel divergence{"",
                   {low_bits, high_bits, kLeft, kLeft + kPanelWidth},
                   {kl_floor, kl_ceiling, bottom, kTop, true}};
  divergence.frame("KL divergence from the original, nats a token (lower is better)");
  divergence.curves(points, true, &ChartPoint::kl_divergence, &ChartPoint::kl_error);

  const double left = kLeft + kPanelWidth + kGap;
  Panel perplexity{"",
                   {low_bits, high_bits, left, left + kPanelWidth},
                   {ppl_base - 1.5 * margin, ppl_high->perplexity + 2 * margin, bottom, kTop}};
  perplexity.frame("Perplexity (lower is better)");
  perplexity.line(left, perplexity.y(reference_perplexity), left + kPanelWidth,
                  perplexity.y(reference_perplexity), "reference");
  perplexity.text(left + kPanelWidth, perplexity.y(reference_perplexity) + 17,
                  fmt::format("original: {:.4f}", reference_perplexity), "referencelabel", "end");
  perplexity.curves(points, false, &ChartPoint::perplexity, nullptr);

  double legend = left + kPanelWidth - 210;
  for (const auto& [kind, name] :
       {std::pair("dot", "k-quants and Q8_0"), std::pair("dot old", "older")}) {
    perplexity.svg +=
        fmt::format("<circle cx=\"{:.1f}\" cy=\"23\" r=\"4\" class=\"{}\"/>\n", legend, kind);
    perplexity.text(legend + 10, 28, name, "axis", "start");
    legend += 150;
  }

  const double height = bottom + 56;
  const std::string svg = fmt::format(
                              "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" "
                              "role=\"img\" aria-label=\"{2}\">\n",
                              kWidth, height, title) +
                          kStyle +
                          fmt::format(
                              "<rect class=\"paper\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n<text "
                              "x=\"{}\" y=\"28\" class=\"title\">{}</text>\n",
                              kWidth, height, kLeft, title) +
                          divergence.svg + perplexity.svg + "</svg>\n";
  auto file = kquant::AtomicFile::create(path);
  if (!file) return kquant::fail(file.error());
  if (auto written = file->write(std::as_bytes(std::span(svg))); !written) return written;
  return file->commit();
}
