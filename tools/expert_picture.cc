#include "tools/expert_picture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/base/file.h"
#include "tools/plot.h"

namespace tern {
namespace {

constexpr double kDarkest = 4;  // times the even load

std::string Rect(double x, double y, double width, double height, const std::string& fill, const std::string& title = {}) {
  return Str("<rect x=\"", Fixed(x, 1), "\" y=\"", Fixed(y, 1), "\" width=\"", Fixed(width, 1), "\" height=\"", Fixed(height, 1), "\" fill=\"", fill, "\"",
             title.empty() ? "/>\n" : Str("><title>", title, "</title></rect>\n"));
}

// From the paper's colour to dark blue.
std::string Shade(double times_even) {
  const double s = std::sqrt(std::clamp(times_even / kDarkest, 0.0, 1.0));
  auto mix = [s](int from, int to) { return static_cast<int>(std::lround(from + s * (to - from))); };
  return Str("rgb(", mix(238, 12), ",", mix(242, 62), ",", mix(246, 110), ")");
}

std::string Busiest(const ExpertUsage::Layer& layer) {
  std::vector<size_t> order(layer.load.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t shown = std::min<size_t>(3, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(shown), order.end(),
                    [&](size_t a, size_t b) { return layer.load[a] != layer.load[b] ? layer.load[a] > layer.load[b] : a < b; });
  std::string out;
  for (size_t i = 0; i < shown && layer.load[order[i]] > 0; ++i)
    out += Str(out.empty() ? "" : ", ", "#", order[i], " ", Fixed(100.0 * static_cast<double>(layer.load[order[i]]) / static_cast<double>(layer.tokens()), 1), "%");
  return out;
}

}  // namespace

std::string ExpertTable(const ExpertUsage& usage, const Console& console) {
  std::vector<std::vector<std::string>> rows = {{"experts of", "tokens", "used", "largest/mean", "evenness", "dropped", "busiest"}};
  for (const ExpertUsage::Layer& l : usage.layers())
    rows.push_back({l.name, WithCommas(l.tokens()), Str(l.used(), "/", l.load.size()), Fixed(l.Imbalance(), 2), Fixed(l.Evenness(), 2), WithCommas(l.dropped), Busiest(l)});
  return Table(rows, console);
}

Json ExpertLayersJson(const ExpertUsage& usage) {
  Json layers = Json::array();
  for (const ExpertUsage::Layer& l : usage.layers())
    layers.push_back({{"layer", l.name}, {"tokens", l.tokens()}, {"used", l.used()}, {"largest", l.largest()}, {"imbalance", l.Imbalance()}, {"evenness", l.Evenness()},
                      {"dropped", l.dropped}, {"load", l.load}});
  return layers;
}

std::string ExpertSvg(const std::string& title, const ExpertUsage& usage) {
  size_t experts = 1;
  for (const ExpertUsage::Layer& l : usage.layers()) experts = std::max(experts, l.load.size());
  const double row = 24, left = 150, top = 64, cell = std::clamp(900 / static_cast<double>(experts), 3.0, 40.0), span = cell * static_cast<double>(experts);
  const double bottom = top + row * static_cast<double>(usage.layers().size()), width = left + std::max(span, 420.0) + 190, height = bottom + 66;
  std::string svg = Str("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", Fixed(width, 0), " ", Fixed(height, 0),
                        "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n");
  svg += SvgText(16, 24, "start", title, " font-size=\"15\" font-weight=\"bold\"");
  const size_t step = std::max<size_t>(1, static_cast<size_t>(std::ceil(32 / cell)));
  for (size_t e = 0; e < experts; e += step) svg += SvgText(left + (static_cast<double>(e) + 0.5) * cell, top - 8, "middle", Str(e), " fill=\"#5b6b7a\"");
  double y = top;
  for (const ExpertUsage::Layer& l : usage.layers()) {
    svg += SvgText(left - 10, y + 15, "end", l.name);
    const double all = std::max(1.0, static_cast<double>(l.tokens())), even = all / static_cast<double>(l.load.size());
    svg += Rect(left, y + 2, cell * static_cast<double>(l.load.size()), row - 4, Shade(0));
    for (size_t e = 0; e < l.load.size(); ++e)
      if (const auto n = static_cast<double>(l.load[e]); n > 0)
        svg += Rect(left + static_cast<double>(e) * cell, y + 2, std::max(cell - 1, 2.0), row - 4, Shade(n / even),
                    Str(l.name, ", expert ", e, ": ", l.load[e], " of ", l.tokens(), " tokens (", Fixed(100 * n / all, 1), "%)"));
    svg += SvgText(left + span + 10, y + 15, "start", Str(l.used(), " used, largest ", Fixed(l.Imbalance(), 1), "x mean", l.dropped > 0 ? Str(", ", l.dropped, " dropped") : ""),
                   " fill=\"#33424f\" font-size=\"11\"");
    y += row;
  }
  double x = left;
  for (double times : {0.0, 0.5, 1.0, 2.0, 4.0}) {
    svg += Rect(x, bottom + 22, 22, 14, Shade(times));
    const std::string label = times == 0 ? "no token" : times == 1 ? "even load" : Str(Fixed(times, times < 1 ? 1 : 0), "x", times == kDarkest ? " and more" : "");
    svg += SvgText(x + 28, bottom + 33, "start", label, " fill=\"#5b6b7a\"");
    x += 92;
  }
  return svg + "</svg>\n";
}

Status WriteExpertSvg(const std::string& path, const std::string& title, const ExpertUsage& usage) {
  TERN_ASSIGN(FileWriter writer, FileWriter::Create(path));
  TERN_RETURN_IF_ERROR(writer.Write(ExpertSvg(title, usage)));
  return writer.Commit();
}

}  // namespace tern
