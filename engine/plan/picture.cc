// The plan for people: JSON and a picture.
#include <algorithm>

#include "engine/plan/plan.h"

namespace tern {
namespace {

std::string BufferName(const Graph& g, const Placement& p) {
  const std::string& op = g.ops[static_cast<size_t>(p.op)].name;
  return p.value >= 0 ? op : op + " (scratch)";
}

Json PhaseToJson(const Graph& g, const Phase& phase) {
  Json buffers = Json::array();
  for (const Placement& p : phase.placements)
    buffers.push_back({{"name", BufferName(g, p)}, {"offset", p.offset}, {"bytes", p.bytes}, {"first", p.first}, {"last", p.last}});
  Json ops = Json::array();
  for (int32_t i : phase.ops) ops.push_back(g.ops[static_cast<size_t>(i)].name);
  return {{"arena_bytes", phase.arena_bytes}, {"bound_bytes", phase.bound_bytes}, {"peak_op", phase.peak_op}, {"ops", ops}, {"buffers", buffers}};
}

std::string Escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '&') out += "&amp;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

}  // namespace

Json PlanToJson(const Plan& plan) {
  return {{"constants_bytes", plan.constants_bytes}, {"state_bytes", plan.state_bytes}, {"constants", PhaseToJson(plan.graph, plan.constants)},
          {"run", PhaseToJson(plan.graph, plan.run)}};
}

std::string PlanToSvg(const Plan& plan) {
  const Phase& phase = plan.run;
  const double width = 1000, height = 520, left = 90, top = 40;
  const double steps = std::max<double>(1, static_cast<double>(phase.ops.size())), bytes = std::max<double>(1, static_cast<double>(phase.arena_bytes));
  auto x = [&](double op) { return left + op / steps * width; };
  auto y = [&](double offset) { return top + offset / bytes * height; };
  std::ostringstream out;
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << left + width + 20 << " " << top + height + 60 << "\" font-family=\"sans-serif\" font-size=\"12\">\n";
  out << "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"" << left << "\" y=\"24\" font-size=\"15\">Arena: " << phase.arena_bytes << " bytes, "
      << phase.ops.size() << " operations; no layout can need less than " << phase.bound_bytes << "</text>\n";
  for (const Placement& p : phase.placements) {
    const std::string name = BufferName(plan.graph, p);
    // One colour per operation kind, from its name.
    size_t hue = std::hash<std::string>()(name.substr(name.rfind('.') + 1)) % 360;
    out << "<rect x=\"" << x(p.first) << "\" y=\"" << y(static_cast<double>(p.offset)) << "\" width=\"" << std::max(1.0, x(p.last + 1) - x(p.first)) << "\" height=\""
        << std::max(0.5, y(static_cast<double>(p.bytes)) - top) << "\" fill=\"hsl(" << hue << (p.value >= 0 ? ",60%,65%)" : ",25%,80%)")
        << "\" stroke=\"#333\" stroke-width=\"0.4\"><title>" << Escaped(name) << ": " << p.bytes << " bytes at " << p.offset << ", operations " << p.first << " to "
        << p.last << "</title></rect>\n";
  }
  out << "<text x=\"" << left + width / 2 << "\" y=\"" << top + height + 30 << "\" text-anchor=\"middle\">operation</text>\n";
  for (int i = 0; i <= 4; ++i)
    out << "<text x=\"" << left - 6 << "\" y=\"" << top + height * i / 4 + 4 << "\" text-anchor=\"end\">" << static_cast<int64_t>(bytes * i / 4 / 1024)
        << " KiB</text>\n";
  out << "</svg>\n";
  return out.str();
}

}  // namespace tern
