// Line charts as SVG, self-contained text: panels beside each other with one legend.
#pragma once

#include <string>
#include <vector>

namespace tern {

struct ChartPoint {
  double x = 0, y = 0;
};
struct ChartLine {
  std::string label;  // lines of one label have one colour in all panels
  std::vector<ChartPoint> points;
};
struct ChartMark {  // a vertical line
  double x = 0;
  std::string label;
};
struct ChartPanel {
  std::string title;
  bool log_x = true, log_y = true;
  std::vector<ChartLine> lines;
  std::vector<ChartMark> marks;
};

// Points that a logarithm has no place for are left out.
std::string LineChart(const std::string& title, const std::string& foot, const std::vector<ChartPanel>& panels);

}  // namespace tern
