// A bar chart as SVG, self-contained text: for `--svg`.
#pragma once

#include <string>
#include <vector>

namespace tern {

struct Bar {
  std::string label;
  double value = 0, limit = 0;  // the bar, and the mark it is measured against
  std::string note;             // written behind the bar
};

// Horizontal bars, each as a share of its limit (0 to 100 %).
std::string BarChart(const std::string& title, const std::string& foot, const std::vector<Bar>& bars);

// One line of text; `anchor` is start, middle or end, `style` further attributes with a space in front.
std::string SvgText(double x, double y, const char* anchor, const std::string& text, const char* style = "");

}  // namespace tern
