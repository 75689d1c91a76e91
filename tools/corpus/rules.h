// Quality rules: text -> measured values -> verdict. Each rule set is one file; the limits are those of the reference (datatrove 0.10.1, specification
// 12.5) and can be changed in a rules file (rules_file.h). Limits are strict: a value equal to its limit passes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "tools/corpus/text_units.h"

namespace tern::corpus {

// Why a document fails, or that it does not.
struct Verdict {
  std::string_view reason;       // empty: it passes. Lives as long as the rule set
  double value = 0, limit = 0;   // what was measured, and the limit it broke
  bool passes() const { return reason.empty(); }
};

// One number a rule looks at.
struct Limit {
  const char* name;  // as in a rules file
  double* value;
};

// A set of rules under one name. Judge is const and thread-safe; `units` belongs to the caller's thread. It may rewrite the text (a verdict that fails may
// leave it rewritten or not).
class RuleSet {
 public:
  virtual ~RuleSet() = default;
  virtual std::string_view name() const = 0;
  virtual std::string_view summary() const = 0;                  // for --help
  virtual std::vector<std::string_view> reasons() const = 0;     // that it may give, in the order of its checks
  virtual bool rewrites() const { return false; }
  virtual std::vector<Limit> limits() { return {}; }
  virtual Verdict Judge(TextUnits& units) const = 0;
  // What went wrong while judging (a model that failed); ends the run. Looked at after every block.
  virtual Status failure() const { return {}; }
};

// Gopher's quality rules: number and mean length of words, symbols, bullets, ellipses, letters, stop words (Rae et al. 2021, table A1).
std::unique_ptr<RuleSet> MakeGopherQuality();
// Gopher's repetition rules: repeated lines and paragraphs, frequent 2- to 4-grams, repeated 5- to 10-grams (same table).
std::unique_ptr<RuleSet> MakeGopherRepetition();
// C4's rules (Raffel et al. 2020, section 2.2): drops lines, fails documents; rewrites the text.
std::unique_ptr<RuleSet> MakeC4();
// mC4's rule: at least three lines of 200 characters.
std::unique_ptr<RuleSet> MakeC4Paragraphs();
// FineWeb's additions (Penedo et al. 2024): line endings, short lines, repeated lines, line feeds.
std::unique_ptr<RuleSet> MakeFineWeb();
// Encoding damage: replacement characters, control characters, UTF-8 read as Latin-1.
std::unique_ptr<RuleSet> MakeEncoding();

// Masks for personal data; removes nothing.
std::unique_ptr<RuleSet> MakePersonalData();

// Sentences of a text (12.5): a run of closing punctuation, closing marks, then white space or the end; an open rest counts one.
int64_t CountSentences(std::string_view text);

// The rule sets that have a name on the command line.
struct NamedRuleSet {
  const char* name;
  std::unique_ptr<RuleSet> (*make)();
};
const std::vector<NamedRuleSet>& NamedRuleSets();
// kUsage with the nearest names for an unknown one.
Result<std::unique_ptr<RuleSet>> MakeRuleSet(std::string_view name);

}  // namespace tern::corpus
