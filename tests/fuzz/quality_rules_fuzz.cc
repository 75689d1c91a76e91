// The named rule sets on any text.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/base/utf8.h"
#include "tools/corpus/rules.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<std::unique_ptr<tern::corpus::RuleSet>> sets = [] {
    std::vector<std::unique_ptr<tern::corpus::RuleSet>> all;
    for (const auto& named : tern::corpus::NamedRuleSets()) all.push_back(named.make());
    return all;
  }();
  static tern::corpus::TextUnits units;
  std::string text = tern::ReplaceInvalidUtf8({reinterpret_cast<const char*>(data), size});
  for (const auto& set : sets) {
    units.Reset(text);
    tern::corpus::Verdict verdict = set->Judge(units);
    if (!tern::IsUtf8(units.text())) __builtin_trap();
    (void)verdict;
    (void)units.Top(2);
    (void)units.DuplicatedChars(5);
  }
  return 0;
}
