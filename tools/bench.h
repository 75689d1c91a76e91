// What the kinds of `tern bench` share: how a row is shown beside the machine's limit.
#pragma once

#include <string>
#include <vector>

#include "tools/timing.h"

namespace tern {

// One line of a table: the work, its time, and the figure that the machine bounds.
struct BenchRow {
  std::string work;
  Measured measured;
  double rate = 0;       // GFLOP/s or GB/s
  double limit = 0;      // the machine's, in the same unit
  const char* unit = "GFLOP/s";
  std::string bound;     // what the limit is: "FMA", "read"
  std::string extra;
  Json json;             // the contract's object of this row
};

// The lower of two times a piece of work cannot beat: `flops` at the FMA peak, `bytes` at the read bandwidth. Fills rate, limit, unit and bound.
void SetBound(BenchRow* row, double flops, double bytes, const Machine& machine);

// Prints rows as a table (or JSON: the one row's object, or {"verb", "rows", "machine"}), and writes the picture.
Status ReportBench(const std::string& verb, const std::vector<BenchRow>& rows, const Machine& machine, const RepeatFlags& flags, Console& console);

extern const Verb kBenchGemm, kBenchOps, kBenchAttention, kBenchModel, kBenchDecode;

}  // namespace tern
