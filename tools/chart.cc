#include "tools/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/base/status.h"
#include "tools/output.h"
#include "tools/plot.h"

namespace tern {
namespace {

constexpr const char* kColours[] = {"#2f7ebc", "#c8553d", "#3a8f5c", "#8e5ba6", "#b8860b", "#5b6b7a", "#d2699e", "#20808d"};
constexpr double kWidth = 300, kHeight = 220, kGap = 78, kLeft = 64, kTop = 64;

// One axis: values to places, and where its ticks stand.
class Axis {
 public:
  Axis(bool logarithmic, bool binary, double from, double to) : log_(logarithmic), binary_(binary), from_(from), to_(to) {}
  void Take(double v) {
    if (!Usable(v)) return;
    low_ = std::min(low_, v), high_ = std::max(high_, v);
  }
  bool Usable(double v) const { return std::isfinite(v) && (!log_ || v > 0); }
  bool empty() const { return low_ > high_; }
  void Close() {
    if (empty()) return;
    if (log_ && !binary_) low_ = std::pow(10, std::floor(std::log10(low_))), high_ = std::pow(10, std::ceil(std::log10(high_)));
    if (!log_) low_ = std::min(low_, 0.0);
    if (high_ <= low_) high_ = log_ ? low_ * 2 : low_ + 1;
  }
  double At(double v) const {
    const double share = log_ ? std::log(v / low_) / std::log(high_ / low_) : (v - low_) / (high_ - low_);
    return from_ + share * (to_ - from_);
  }
  std::vector<double> Ticks() const {
    std::vector<double> ticks;
    if (log_) {
      const double base = binary_ ? 2 : 10, steps = std::log(high_ / low_) / std::log(base);
      const int stride = std::max(1, static_cast<int>(std::ceil(steps / 6)));
      for (double e = std::ceil(std::log(low_) / std::log(base) - 1e-9); std::pow(base, e) <= high_ * 1.0001; e += stride) ticks.push_back(std::pow(base, e));
    } else {
      const double raw = (high_ - low_) / 5, unit = std::pow(10, std::floor(std::log10(raw)));
      const double step = raw / unit < 2 ? 2 * unit : raw / unit < 5 ? 5 * unit : 10 * unit;
      for (double v = std::ceil(low_ / step) * step; v <= high_ * 1.0001; v += step) ticks.push_back(v);
    }
    return ticks;
  }
  std::string Label(double v) const {
    if (binary_ && v >= 1024) return Str(Fixed(v / 1024, 0), "k");
    if (log_ && v != 0) {
      const double e = std::log10(v);
      if (v >= 1e4 || v < 1e-2) return Str("1e", Fixed(e, 0));
    }
    return Fixed(v, v >= 10 || v == std::floor(v) ? 0 : v >= 0.1 ? 1 : 2);
  }

 private:
  bool log_, binary_;
  double from_, to_, low_ = std::numeric_limits<double>::infinity(), high_ = -std::numeric_limits<double>::infinity();
};

std::string Line(double x1, double y1, double x2, double y2, const char* style) {
  return Str("<line x1=\"", Fixed(x1, 1), "\" y1=\"", Fixed(y1, 1), "\" x2=\"", Fixed(x2, 1), "\" y2=\"", Fixed(y2, 1), "\" ", style, "/>\n");
}

std::string Panel(const ChartPanel& panel, double left, const std::vector<std::string>& labels) {
  const double bottom = kTop + kHeight, right = left + kWidth;
  Axis x(panel.log_x, panel.log_x, left, right), y(panel.log_y, false, bottom, kTop);
  for (const ChartLine& line : panel.lines)
    for (const ChartPoint& p : line.points)
      if (x.Usable(p.x) && y.Usable(p.y)) x.Take(p.x), y.Take(p.y);
  std::string svg = SvgText(left, kTop - 14, "start", panel.title, " font-weight=\"bold\"");
  if (x.empty()) return svg;
  x.Close(), y.Close();
  for (double v : y.Ticks()) svg += Line(left, y.At(v), right, y.At(v), "stroke=\"#e3e8ec\"") + SvgText(left - 6, y.At(v) + 4, "end", y.Label(v), " fill=\"#5b6b7a\"");
  for (double v : x.Ticks()) svg += Line(x.At(v), bottom, x.At(v), bottom + 4, "stroke=\"#8796a3\"") + SvgText(x.At(v), bottom + 17, "middle", x.Label(v), " fill=\"#5b6b7a\"");
  svg += Line(left, bottom, right, bottom, "stroke=\"#8796a3\"");
  double text = kTop + 12;
  for (const ChartMark& mark : panel.marks) {
    if (!x.Usable(mark.x) || x.At(mark.x) < left || x.At(mark.x) > right) continue;
    svg += Line(x.At(mark.x), kTop, x.At(mark.x), bottom, "stroke=\"#33424f\" stroke-dasharray=\"3 3\"");
    svg += SvgText(std::min(x.At(mark.x) + 4, right - 60), text, "start", mark.label, " fill=\"#33424f\" font-size=\"10\"");
    text += 12;
  }
  for (const ChartLine& line : panel.lines) {
    const size_t colour = static_cast<size_t>(std::find(labels.begin(), labels.end(), line.label) - labels.begin()) % std::size(kColours);
    std::string path;
    for (const ChartPoint& p : line.points) {
      if (!x.Usable(p.x) || !y.Usable(p.y)) continue;
      path += Str(path.empty() ? "M" : "L", Fixed(x.At(p.x), 1), " ", Fixed(y.At(p.y), 1));
      if (line.points.size() <= 32) svg += Str("<circle cx=\"", Fixed(x.At(p.x), 1), "\" cy=\"", Fixed(y.At(p.y), 1), "\" r=\"2.5\" fill=\"", kColours[colour], "\"/>\n");
    }
    svg += Str("<path d=\"", path, "\" fill=\"none\" stroke=\"", kColours[colour], "\" stroke-width=\"1.6\"/>\n");
  }
  return svg;
}

}  // namespace

std::string LineChart(const std::string& title, const std::string& foot, const std::vector<ChartPanel>& panels) {
  std::vector<std::string> labels;
  for (const ChartPanel& panel : panels)
    for (const ChartLine& line : panel.lines)
      if (std::find(labels.begin(), labels.end(), line.label) == labels.end()) labels.push_back(line.label);
  const double width = kLeft + static_cast<double>(panels.size()) * (kWidth + kGap), legend = 20 * std::ceil(static_cast<double>(labels.size()) / 6);
  const double height = kTop + kHeight + 62 + legend;
  std::string svg = Str("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", Fixed(width, 0), " ", Fixed(height, 0),
                        "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
  svg += SvgText(16, 24, "start", title, " font-size=\"15\" font-weight=\"bold\"");
  for (size_t i = 0; i < panels.size(); ++i) svg += Panel(panels[i], kLeft + static_cast<double>(i) * (kWidth + kGap), labels);
  for (size_t i = 0; i < labels.size(); ++i) {
    const double x = kLeft + static_cast<double>(i % 6) * 150, y = kTop + kHeight + 44 + 20 * std::floor(static_cast<double>(i) / 6);
    svg += Str("<rect x=\"", Fixed(x, 1), "\" y=\"", Fixed(y - 8, 1), "\" width=\"18\" height=\"4\" fill=\"", kColours[i % std::size(kColours)], "\"/>\n");
    svg += SvgText(x + 24, y, "start", labels[i]);
  }
  svg += SvgText(16, height - 10, "start", foot, " fill=\"#5b6b7a\"");
  return svg + "</svg>\n";
}

}  // namespace tern
