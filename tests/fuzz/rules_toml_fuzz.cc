// Rules files in TOML: any text is refused with a message or gives rule sets that judge any text.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/base/utf8.h"
#include "tools/corpus/rules_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  auto sets = tern::corpus::ParseRulesText(text, "fuzz", true);
  if (!sets.ok()) return 0;
  // The file itself as a document, and every named set on it too.
  std::string document = tern::ReplaceInvalidUtf8(text);
  tern::corpus::TextUnits units;
  for (const auto& set : *sets) {
    units.Reset(document);
    (void)set->Judge(units);
  }
  for (const auto& named : tern::corpus::NamedRuleSets()) {
    units.Reset(document);
    (void)named.make()->Judge(units);
  }
  return 0;
}
