// tern bench KIND: the verb, and the tables its kinds print.
#include "tools/bench.h"

#include <algorithm>

#include "engine/base/file.h"
#include "tools/plot.h"

namespace tern {

void SetBound(BenchRow* row, double flops, double bytes, const Machine& machine) {
  const double compute = flops * 1e-9 / machine.fma_gflops, memory = bytes * 1e-9 / machine.read_gbps, took = row->measured.Median();
  if (compute >= memory) {
    row->rate = flops * 1e-9 / took, row->limit = machine.fma_gflops, row->unit = "GFLOP/s", row->bound = "FMA";
  } else {
    row->rate = bytes * 1e-9 / took, row->limit = machine.read_gbps, row->unit = "GB/s", row->bound = "read";
  }
}

Status ReportBench(const std::string& verb, const std::vector<BenchRow>& rows, const Machine& machine, const RepeatFlags& flags, Console& console) {
  const std::string limits = Str("one thread of this machine: ", Fixed(machine.fma_gflops_1t, 1), " GFLOP/s multiply-add, ", Fixed(machine.read_gbps_1t, 1),
                                 " GB/s read", flags.threads > 1 ? Str("; ", flags.threads, " together: ", Fixed(machine.fma_gflops, 1), " and ",
                                                                       Fixed(machine.read_gbps, 1)) : "");
  if (flags.svg) {
    std::vector<Bar> bars;
    for (const BenchRow& row : rows) bars.push_back({row.work, row.rate, row.limit, Str(Fixed(row.rate, 1), " ", row.unit, " (", row.bound, ")")});
    TERN_ASSIGN(FileWriter writer, FileWriter::Create(*flags.svg));
    TERN_RETURN_IF_ERROR(writer.Write(BarChart(Str("tern ", verb, ", ", flags.threads, " thread", flags.threads > 1 ? "s" : "", ": share of the machine's limit"),
                                               limits, bars)));
    TERN_RETURN_IF_ERROR(writer.Commit());
  }
  if (console.json) {
    if (rows.size() == 1) {
      console.PrintJson(rows[0].json);
      return {};
    }
    Json all = {{"verb", verb}, {"rows", Json::array()}, {"machine", MachineJson(machine)}};
    for (const BenchRow& row : rows) all["rows"].push_back(row.json);
    console.PrintJson(all);
    return {};
  }
  std::vector<std::vector<std::string>> table = {{"work", "time", "spread", "cpu time", "rate", "unit", "limit", "share", "bound"}};
  bool extra = std::any_of(rows.begin(), rows.end(), [](const BenchRow& row) { return !row.extra.empty(); });
  if (extra) table[0].push_back("");
  for (const BenchRow& row : rows) {
    table.push_back({row.work, HumanSeconds(row.measured.Median()), Fixed(row.measured.Spread() * 100, 0) + "%", HumanSeconds(row.measured.cpu_seconds),
                     Fixed(row.rate, 1), row.unit, Fixed(row.limit, 1), Fixed(100 * row.rate / row.limit, 0) + "%", row.bound});
    if (extra) table.back().push_back(row.extra);
  }
  console.Print(Table(table, console));
  console.Note(limits);
  return {};
}

static const Verb* const kKinds[] = {&kBenchGemm, &kBenchOps, &kBenchAttention, &kBenchModel, &kBenchDecode};
extern const Verb kBench = {"bench", "Machine", "measure speed beside this machine's limits", "tern bench gemm --threads 1\ntern bench model books.tern --inputs ids.safetensors --json",
                            nullptr, kKinds};

}  // namespace tern
