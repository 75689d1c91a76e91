// Pattern: what a Split or Replace component looks for: a plain string or a regular expression.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/json.h"
#include "engine/base/status.h"
#include "formats/tokenizer_regex.h"

namespace tern {

class Pattern {
 public:
  // config[key] = {"String": s} or {"Regex": r}.
  static Result<Pattern> FromConfig(const Json& config, const char* key);
  static Pattern FromText(std::string text);

  Status FindAll(std::string_view text, std::vector<std::pair<size_t, size_t>>* matches) const;
  bool is_regex() const { return regex_.has_value(); }
  const std::string& text() const { return text_; }
  bool is_space_run() const { return fast_ == Fast::kSpaceRun || fast_ == Fast::kWhiteSpaceRun; }

 private:
  // Patterns that everybody uses, matched without the general machine; the results are the same (a test compares).
  enum class Fast { kNone, kSpaceRun, kWhiteSpaceRun, kGpt2 };
  std::string text_;
  std::optional<Regex> regex_;
  Fast fast_ = Fast::kNone;
};

// GPT-2's splitter: contractions, letters, numbers, others - each with one space before it - and white space.
void FindGpt2Words(std::string_view text, std::vector<std::pair<size_t, size_t>>* matches);

}  // namespace tern
