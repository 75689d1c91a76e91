// Rules of one's own, in a JSON file, or the same in TOML ([lines], [[rules]], ..):
//
//   {
//     "name": "mine",                                             the set's name in removed.jsonl; without it, the file's
//     "use": [{"set": "gopher", "limits": {"min_words": 20}}],    named sets with other limits
//     "lines": {"min_words": 3, "max_chars": 2000, "end_mark": true, "drop": ["subscribe now"], "drop_repeated": true},
//     "rules": [
//       {"reason": "shouting", "measure": "upper_ratio", "max": 0.4},
//       {"reason": "advert", "contains": ["buy now", "click here"], "max": 1}
//     ]
//   }
//
// Order: the sets of "use", then "lines" (they rewrite the text: lines that break one of the conditions go), then "rules". A rule fails a document whose
// measure is below "min" or above "max"; with "contains" the measure is how often the phrases stand in the text, letters compared without case (ASCII),
// "max" is 0 if not given. Unknown names, double reasons and limits that are not finite numbers are refused with the place in the file.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/status.h"
#include "tools/corpus/rules.h"

namespace tern::corpus {

Result<std::vector<std::unique_ptr<RuleSet>>> ReadRulesFile(const std::string& path);
bool IsRulesFile(std::string_view name);  // .json or .toml
// `name` is the set's name if the text gives none.
Result<std::vector<std::unique_ptr<RuleSet>>> ParseRulesText(std::string_view text, std::string_view name, bool toml = false);

// A number that rules may look at.
struct Measure {
  const char* name;
  const char* meaning;
  double (*of)(TextUnits& units);
};
const std::vector<Measure>& Measures();

}  // namespace tern::corpus
