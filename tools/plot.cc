#include "tools/plot.h"

#include <algorithm>

#include "engine/base/status.h"
#include "tools/output.h"

namespace tern {
namespace {

std::string Escaped(const std::string& text) {
  std::string out;
  for (char c : Printable(text, 400)) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

}  // namespace

std::string SvgText(double x, double y, const char* anchor, const std::string& text, const char* style) {
  return Str("<text x=\"", Fixed(x, 1), "\" y=\"", Fixed(y, 1), "\" text-anchor=\"", anchor, "\"", style, ">", Escaped(text), "</text>\n");
}

std::string BarChart(const std::string& title, const std::string& foot, const std::vector<Bar>& bars) {
  const double row = 22, left = 260, span = 420, top = 58, width = left + span + 220;
  const double height = top + row * static_cast<double>(bars.size()) + 44;
  std::string svg = Str("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", Fixed(width, 0), " ", Fixed(height, 0),
                        "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
  svg += SvgText(16, 24, "start", title, " font-size=\"15\" font-weight=\"bold\"");
  const double bottom = top + row * static_cast<double>(bars.size());
  for (int percent = 0; percent <= 100; percent += 25) {
    double x = left + span * percent / 100;
    svg += Str("<line x1=\"", Fixed(x, 1), "\" y1=\"", Fixed(top - 6, 1), "\" x2=\"", Fixed(x, 1), "\" y2=\"", Fixed(bottom, 1), "\" stroke=\"#d5dbe1\"/>\n");
    svg += SvgText(x, top - 10, "middle", Str(percent, "%"), " fill=\"#5b6b7a\"");
  }
  double y = top;
  for (const Bar& bar : bars) {
    double share = bar.limit > 0 ? std::clamp(bar.value / bar.limit, 0.0, 1.1) : 0;
    svg += SvgText(left - 10, y + 14, "end", bar.label);
    svg += Str("<rect x=\"", Fixed(left, 1), "\" y=\"", Fixed(y + 3, 1), "\" width=\"", Fixed(span * share, 1), "\" height=\"15\" rx=\"2\" fill=\"#2f7ebc\"/>\n");
    svg += SvgText(left + span * std::max(share, 1.0) + 8, y + 14, "start", bar.note, " fill=\"#33424f\"");
    y += row;
  }
  svg += SvgText(16, height - 14, "start", foot, " fill=\"#5b6b7a\"");
  return svg + "</svg>\n";
}

}  // namespace tern
