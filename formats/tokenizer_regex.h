// Regex: the patterns that tokenizer.json files split and replace by, such as GPT-2's and its descendants'. A small
// language - literals, classes
// (\s \d \w \p{..}, sets), groups with flags, alternatives, greedy and lazy and possessive repetition, look-ahead, ^
// and $ - matched by bounded backtracking: a text that needs more than a fixed number of steps per byte is an error,
// never a hang. Unicode classes are the regex engines' own. Immutable; safe to share.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/status.h"

namespace tern {

class Regex {
 public:
  static constexpr size_t kMaxPatternBytes = 4096;
  // kMalformed where the pattern is wrong or uses what this language does not have (back references, look-behind, ...).
  static Result<Regex> Compile(std::string_view pattern);

  // All matches from left to right, none overlapping: begin and end in bytes. An empty match moves on by one character.
  // kMalformed if the step limit is hit.
  Status FindAll(std::string_view text, std::vector<std::pair<size_t, size_t>>* matches) const;

  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

 private:
  friend class RegexParser;
  friend class RegexMatcher;
  struct Program;
  Regex();
  std::unique_ptr<Program> program_;
};

}  // namespace tern
