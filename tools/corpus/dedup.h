// dedup: exact, near, line and substring duplicates, in this order, each stage on what the former left (specification 12.3).
//
// The input is read once for the keys of all documents; later stages read only what they need again; the last pass copies what is kept. Decisions depend
// on the documents alone, never on threads, memory or the order in which work happened to end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "tools/corpus/options.h"

namespace tern::corpus {

enum class Normalize { kNone, kSpace, kFold, kWords };
enum class KeepRule { kLongest, kFirst, kScore };
enum class UnitKind { kAuto, kWord, kChar };

struct ShingleUnit {
  UnitKind kind = UnitKind::kAuto;
  int n = 5;  // of kWord and kChar
};

struct DedupOptions {
  CommonOptions common;
  bool exact = false, near = false, lines = false, substr = false;  // none: exact and near
  bool per_source = false;           // documents of different inputs are never duplicates of one another
  KeepRule keep = KeepRule::kLongest;
  Normalize exact_normalize = Normalize::kNone, line_normalize = Normalize::kSpace;

  ShingleUnit unit;
  double threshold = 0.8;
  int bands = 16, rows = 8;
  bool star = true;                  // else whole components
  int64_t max_cluster = -1;          // documents; 0: max_cluster_percent of them; -1: the same, at least 100
  double max_cluster_percent = 0.1;
  bool pairs = false;                // list every verified pair

  int64_t min_line = 1;              // code points of a line's key
  int64_t min_bytes = 100;           // of a repeated window
  int64_t min_words = 0;             // > 0: windows of words instead
  bool cut_all = false;              // all copies, the first one too
  int64_t passes = 2;
};

Result<Normalize> ParseNormalize(std::string_view text);         // none, space, fold, words
Status ParseKeep(std::string_view text, DedupOptions* options);   // longest, first, score:FIELD
Result<ShingleUnit> ParseUnit(std::string_view text);             // auto, word5, char8
Status ParseBands(std::string_view text, DedupOptions* options);  // 16x8
Status ParseMaxCluster(std::string_view text, DedupOptions* options);  // 100, 0.1%

// Runs it and writes the output folder. *report is what report.json holds, also when a guard stopped the run (kGuard).
Status Dedup(const DedupOptions& options, Json* report);

}  // namespace tern::corpus
