// Kinds of attention beside each other: the table, where they cross, and the picture.
#include <algorithm>
#include <cmath>

#include "engine/base/file.h"
#include "tools/attention_work.h"
#include "tools/chart.h"

namespace tern {
namespace {

bool Has(const BenchRow& row) { return !row.measured.seconds.empty(); }
double Seconds(const BenchRow& row) { return row.measured.Median(); }

struct Crossover {
  std::string kind;
  double length = 0;  // the kind is faster from here on; 0: from the first length measured, infinity: nowhere
};

// Where the line of `kind` (through logarithms) falls below that of the reference for good.
Crossover Cross(const AttentionComparison& c, size_t kind, size_t reference) {
  Crossover x{c.kinds[kind], INFINITY};
  for (size_t i = c.lengths.size(); i-- > 0;) {
    const BenchRow &a = c.rows[kind][i], &b = c.rows[reference][i];
    if (!Has(a) || !Has(b)) continue;
    if (Seconds(a) >= Seconds(b)) {
      if (std::isinf(x.length) || i + 1 >= c.lengths.size() || !Has(c.rows[kind][i + 1]) || !Has(c.rows[reference][i + 1])) return x;
      const double before = std::log(Seconds(a) / Seconds(b)), after = std::log(Seconds(c.rows[kind][i + 1]) / Seconds(c.rows[reference][i + 1]));
      const double share = before / (before - after);
      x.length = static_cast<double>(c.lengths[i]) * std::pow(static_cast<double>(c.lengths[i + 1]) / static_cast<double>(c.lengths[i]), share);
      return x;
    }
    x.length = 0;
  }
  return x;
}

std::string Told(const Crossover& x, const AttentionComparison& c) {
  if (std::isinf(x.length)) return Str(x.kind, ": not faster than ", c.reference, " at these lengths");
  if (x.length == 0) return Str(x.kind, ": faster than ", c.reference, " from ", c.lengths.front(), " on");
  return Str(x.kind, ": faster than ", c.reference, " from about ", static_cast<int64_t>(x.length), " tokens on");
}

std::string Picture(const AttentionComparison& c, const std::vector<Crossover>& crossovers, const std::string& foot) {
  ChartPanel time{"time, ms", true, true, {}, {}}, memory{"work memory, MB", true, true, {}, {}}, error{"error against exact", true, true, {}, {}};
  for (size_t k = 0; k < c.kinds.size(); ++k) {
    ChartLine t{c.kinds[k], {}}, m{c.kinds[k], {}}, e{c.kinds[k], {}};
    for (size_t i = 0; i < c.lengths.size(); ++i) {
      const BenchRow& row = c.rows[k][i];
      if (!Has(row)) continue;
      const double x = static_cast<double>(c.lengths[i]);
      t.points.push_back({x, Seconds(row) * 1e3});
      m.points.push_back({x, row.json["workspace_bytes"].get<double>() * 1e-6});
      if (row.json.contains("relative_error")) e.points.push_back({x, row.json["relative_error"].get<double>()});
    }
    time.lines.push_back(std::move(t)), memory.lines.push_back(std::move(m)), error.lines.push_back(std::move(e));
  }
  for (const Crossover& x : crossovers)
    if (x.length > 0 && !std::isinf(x.length)) time.marks.push_back({x.length, Str(x.kind, " ", static_cast<int64_t>(x.length))});
  return LineChart("tern bench attention: over the length of the sequence", foot, {time, memory, error});
}

}  // namespace

Status ReportComparison(const AttentionComparison& c, const AttentionBench& bench, Console& console) {
  std::vector<Crossover> crossovers;
  for (size_t k = 0; k < c.kinds.size(); ++k)
    for (size_t r = 0; r < c.kinds.size(); ++r)
      if (c.kinds[r] == c.reference && c.kinds[k] != "exact" && c.kinds[k] != "causal") crossovers.push_back(Cross(c, k, r));
  const std::string foot = Str(c.setting, "; ", bench.flags.threads, " thread", bench.flags.threads > 1 ? "s" : "", ", ", bench.kernels.target);
  if (bench.flags.svg) {
    TERN_ASSIGN(FileWriter writer, FileWriter::Create(*bench.flags.svg));
    TERN_RETURN_IF_ERROR(writer.Write(Picture(c, crossovers, foot)));
    TERN_RETURN_IF_ERROR(writer.Commit());
  }
  if (console.json) {
    Json all = {{"verb", "bench attention"}, {"rows", Json::array()}, {"crossovers", Json::array()}, {"machine", MachineJson(bench.machine)}};
    for (const auto& rows : c.rows)
      for (const BenchRow& row : rows)
        if (Has(row)) all["rows"].push_back(row.json);
    for (const Crossover& x : crossovers) all["crossovers"].push_back({{"kind", x.kind}, {"against", c.reference}, {"length", std::isinf(x.length) ? Json() : Json(x.length)}});
    console.PrintJson(all);
    return {};
  }
  std::vector<std::vector<std::string>> table = {{"length", "kind", "time", "a token", "work memory", "error"}};
  for (size_t i = 0; i < c.lengths.size(); ++i)
    for (size_t k = 0; k < c.kinds.size(); ++k) {
      const BenchRow& row = c.rows[k][i];
      if (!Has(row)) continue;
      table.push_back({WithCommas(c.lengths[i]), c.kinds[k], HumanSeconds(Seconds(row)), HumanSeconds(Seconds(row) / static_cast<double>(c.lengths[i])),
                       HumanBytes(row.json["workspace_bytes"].get<int64_t>()), row.json.contains("relative_error") ? Fixed(row.json["relative_error"].get<double>(), 3) : ""});
    }
  console.Print(Table(table, console));
  for (const Crossover& x : crossovers) console.Print(Told(x, c) + "\n");
  console.Note(foot);
  return {};
}

}  // namespace tern
