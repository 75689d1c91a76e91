// What the fuzz targets of rules files do with a text: it is refused with a message, or its rules judge it, and every named rule set too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/utf8.h"
#include "tools/corpus/rules_file.h"

namespace tern::corpus {

inline void JudgeByRules(const uint8_t* data, size_t size, bool toml) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto sets = ParseRulesText(text, "fuzz", toml);
  if (!sets.ok()) return;
  const std::string document = ReplaceInvalidUtf8(text);
  TextUnits units;
  for (const auto& set : *sets) {
    units.Reset(document);
    (void)set->Judge(units);
  }
  for (const auto& named : NamedRuleSets()) {
    units.Reset(document);
    (void)named.make()->Judge(units);
  }
}

}  // namespace tern::corpus
