// filter: documents that break a quality rule are removed, or marked (specification 12.5).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "tools/corpus/options.h"
#include "tools/corpus/rules.h"

namespace tern::corpus {

struct FilterOptions {
  CommonOptions common;
  std::vector<std::unique_ptr<RuleSet>> rules;  // in this order, each on the text the former left; the first failure removes
  bool annotate = false;                        // write annotations.jsonl instead: each rule set alone on the original text
  bool dry_run = false;                         // judge about one block in a hundred, write nothing
};

// "gopher,c4,my.json": named rule sets and rules files. kUsage for an unknown name, kIo and kMalformed for a rules file.
Result<std::vector<std::unique_ptr<RuleSet>>> ParseRules(std::string_view list);

// Runs and commits. The report, as it stands in report.json; for a dry run with "sampled": documents judged, and counts of the sample alone.
Result<Json> Filter(const FilterOptions& options);

// report.json of a finished run.
Result<Json> ReadReport(const std::string& folder);

// A number as JSON: an integer where it is one, else the shortest decimal that gives the same double.
void AppendJsonNumber(double value, std::string* out);

}  // namespace tern::corpus
