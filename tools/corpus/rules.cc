#include "tools/corpus/rules.h"

namespace tern::corpus {

const std::vector<NamedRuleSet>& NamedRuleSets() {
  static const std::vector<NamedRuleSet> all = {
      {"gopher", MakeGopherQuality}, {"gopher-rep", MakeGopherRepetition}, {"c4", MakeC4},
      {"fineweb", MakeFineWeb},      {"c4-paragraphs", MakeC4Paragraphs},  {"encoding", MakeEncoding},
      {"pii", MakePersonalData},
  };
  return all;
}

Result<std::unique_ptr<RuleSet>> MakeRuleSet(std::string_view name) {
  std::string known;
  for (const NamedRuleSet& set : NamedRuleSets()) {
    if (name == set.name) return set.make();
    known += known.empty() ? set.name : Str(", ", set.name);
  }
  return UsageError(Str("there is no rule set '", Printable(name), "'")).Hint(Str("Known: ", known, ", or a rules file that ends in .json."));
}

}  // namespace tern::corpus
