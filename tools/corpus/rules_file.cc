#include "tools/corpus/rules_file.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <unordered_set>

#include "engine/base/file.h"
#include "tools/corpus/chars.h"
#include "tools/corpus/phrases.h"
#include "tools/corpus/toml.h"

namespace tern::corpus {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr uint64_t kMaxFileBytes = 1 << 20;

// Phrases as they stand in the file, in lower case.
std::vector<std::string> Lowered(const std::vector<std::string>& phrases) {
  std::vector<std::string> out(phrases.size());
  for (size_t i = 0; i < phrases.size(); ++i) LowerForPhrases(phrases[i], &out[i]);
  return out;
}

// "lines": keeps the lines that meet every condition.
class LineRules : public RuleSet {
 public:
  std::string name_;
  double min_words = 0, max_words = kInfinity, min_chars = 0, max_chars = kInfinity;
  bool end_mark = false, drop_repeated = false;
  std::vector<std::string> drop;

  std::string_view name() const override { return name_; }
  std::string_view summary() const override { return "drops lines"; }
  std::vector<std::string_view> reasons() const override { return {"no_lines_left"}; }
  bool rewrites() const override { return true; }

  Verdict Judge(TextUnits& units) const override {
    thread_local std::string kept, lower;
    std::unordered_set<std::string_view> seen;
    kept.clear();
    bool first = true;
    ForEachLine(units.text(), [&](std::string_view line) {
      std::string_view trimmed = Trimmed(line);
      if (!Keeps(trimmed, &lower)) return;
      if (drop_repeated && !trimmed.empty() && !seen.insert(trimmed).second) return;
      if (!first) kept += '\n';
      first = false;
      kept += line;
    });
    if (IsBlank(kept) && !IsBlank(units.text())) return {"no_lines_left", 0, 1};
    units.Rewrite(kept);
    return {};
  }

 private:
  bool Keeps(std::string_view line, std::string* lower) const {
    if (line.empty()) return true;  // blank lines separate what is kept
    double chars = static_cast<double>(CountCodePoints(line));
    if (chars < min_chars || chars > max_chars) return false;
    if (end_mark && (RuleBits(LastChar(line)) & kTerminal) == 0 && line.back() != '"' && line.back() != '\'') return false;
    double words = 0;
    bool in_word = false;
    for (size_t at = 0; at < line.size();) {
      bool blank = (RuleBits(NextChar(line, &at)) & kBlank) != 0;
      words += !blank && !in_word;
      in_word = !blank;
    }
    if (words < min_words || words > max_words) return false;
    if (drop.empty()) return true;
    LowerForPhrases(line, lower);
    return std::none_of(drop.begin(), drop.end(), [&](const std::string& p) { return HasPhrase(*lower, {p, RarestByte(p)}); });
  }
};

struct OwnRule {
  std::string reason;
  const Measure* measure = nullptr;   // or phrases
  std::vector<std::string> contains;
  double min = -kInfinity, max = kInfinity;
};

class OwnRules : public RuleSet {
 public:
  std::string name_;
  std::vector<OwnRule> rules;

  std::string_view name() const override { return name_; }
  std::string_view summary() const override { return "rules of a file"; }
  std::vector<std::string_view> reasons() const override {
    std::vector<std::string_view> all;
    for (const OwnRule& rule : rules) all.push_back(rule.reason);
    return all;
  }
  Verdict Judge(TextUnits& units) const override {
    thread_local std::string lower;
    bool lowered = false;
    for (const OwnRule& rule : rules) {
      double value = 0;
      if (rule.measure) {
        value = rule.measure->of(units);
      } else {
        if (!lowered) LowerForPhrases(units.text(), &lower);
        lowered = true;
        for (const std::string& phrase : rule.contains)
          for (size_t at = 0; (at = lower.find(phrase, at)) != std::string::npos; at += phrase.size()) ++value;
      }
      if (value < rule.min) return {rule.reason, value, rule.min};
      if (value > rule.max) return {rule.reason, value, rule.max};
    }
    return {};
  }
};

// Reads one object whose every key must be asked for.
class ObjectReader {
 public:
  ObjectReader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {}

  Status Open() const { return json_.is_object() ? Status() : Bad(where_, "expected an object"); }
  const Json* Find(const char* key) {
    known_.push_back(key);
    auto it = json_.find(key);
    return it == json_.end() ? nullptr : &*it;
  }
  Status Number(const char* key, double* out) {
    const Json* v = Find(key);
    if (!v) return {};
    if (!v->is_number() || !std::isfinite(v->get<double>())) return Bad(Place(key), "expected a number");
    *out = v->get<double>();
    return {};
  }
  Status Flag(const char* key, bool* out) {
    const Json* v = Find(key);
    if (!v) return {};
    if (!v->is_boolean()) return Bad(Place(key), "expected true or false");
    *out = v->get<bool>();
    return {};
  }
  Status Text(const char* key, std::string* out) {
    const Json* v = Find(key);
    if (!v) return {};
    if (!v->is_string() || v->get_ref<const std::string&>().empty()) return Bad(Place(key), "expected a text");
    *out = v->get<std::string>();
    return {};
  }
  Status Texts(const char* key, std::vector<std::string>* out) {
    const Json* v = Find(key);
    if (!v) return {};
    if (!v->is_array()) return Bad(Place(key), "expected a list of texts");
    for (const Json& item : *v) {
      if (!item.is_string() || item.get_ref<const std::string&>().empty()) return Bad(Place(key), "expected a list of texts that are not empty");
      out->push_back(item.get<std::string>());
    }
    return {};
  }
  // Every key was asked for.
  Status Close() const {
    for (const auto& [key, value] : json_.items()) {
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      std::string known;
      for (const std::string& k : known_) known += known.empty() ? k : ", " + k;
      return Bad(where_, Str("unknown key '", Printable(key), "'")).Hint(Str("Known: ", known));
    }
    return {};
  }
  std::string Place(const char* key) const { return where_.empty() ? key : Str(where_, ".", key); }
  static Status Bad(std::string_view where, std::string what) {
    Status status = Malformed(std::move(what));
    return where.empty() ? status : std::move(status).Where(where);
  }

 private:
  const Json& json_;
  std::string where_;
  std::vector<std::string> known_;
};

Result<std::unique_ptr<RuleSet>> ReadUse(const Json& json, const std::string& where) {
  ObjectReader object(json, where);
  TERN_RETURN_IF_ERROR(object.Open());
  std::string name;
  TERN_RETURN_IF_ERROR(object.Text("set", &name));
  const Json* limits = object.Find("limits");
  TERN_RETURN_IF_ERROR(object.Close());
  auto made = MakeRuleSet(name);
  if (!made.ok()) return ObjectReader::Bad(object.Place("set"), made.status().what()).Hint(made.status().hint());
  if (!limits) return made;
  ObjectReader values(*limits, object.Place("limits"));
  TERN_RETURN_IF_ERROR(values.Open());
  for (const Limit& limit : (*made)->limits()) TERN_RETURN_IF_ERROR(values.Number(limit.name, limit.value));
  TERN_RETURN_IF_ERROR(values.Close());
  return made;
}

Result<std::unique_ptr<RuleSet>> ReadLines(const Json& json, const std::string& name) {
  auto lines = std::make_unique<LineRules>();
  lines->name_ = name + "-lines";
  ObjectReader object(json, "lines");
  TERN_RETURN_IF_ERROR(object.Open());
  TERN_RETURN_IF_ERROR(object.Number("min_words", &lines->min_words));
  TERN_RETURN_IF_ERROR(object.Number("max_words", &lines->max_words));
  TERN_RETURN_IF_ERROR(object.Number("min_chars", &lines->min_chars));
  TERN_RETURN_IF_ERROR(object.Number("max_chars", &lines->max_chars));
  TERN_RETURN_IF_ERROR(object.Flag("end_mark", &lines->end_mark));
  TERN_RETURN_IF_ERROR(object.Flag("drop_repeated", &lines->drop_repeated));
  TERN_RETURN_IF_ERROR(object.Texts("drop", &lines->drop));
  TERN_RETURN_IF_ERROR(object.Close());
  lines->drop = Lowered(lines->drop);
  return std::unique_ptr<RuleSet>(std::move(lines));
}

Result<OwnRule> ReadRule(const Json& json, const std::string& where) {
  OwnRule rule;
  std::string measure;
  ObjectReader object(json, where);
  TERN_RETURN_IF_ERROR(object.Open());
  TERN_RETURN_IF_ERROR(object.Text("reason", &rule.reason));
  TERN_RETURN_IF_ERROR(object.Text("measure", &measure));
  TERN_RETURN_IF_ERROR(object.Texts("contains", &rule.contains));
  TERN_RETURN_IF_ERROR(object.Number("min", &rule.min));
  TERN_RETURN_IF_ERROR(object.Number("max", &rule.max));
  TERN_RETURN_IF_ERROR(object.Close());
  if (rule.reason.empty()) return ObjectReader::Bad(where, "a rule needs a reason");
  if (measure.empty() == rule.contains.empty()) return ObjectReader::Bad(where, "a rule needs either a measure or contains");
  rule.contains = Lowered(rule.contains);
  bool limited = rule.min > -kInfinity || rule.max < kInfinity;
  if (measure.empty()) {
    if (!limited) rule.max = 0;
    return rule;
  }
  std::string known;
  for (const Measure& m : Measures()) {
    if (measure == m.name) rule.measure = &m;
    known += known.empty() ? m.name : Str(", ", m.name);
  }
  if (!rule.measure) return ObjectReader::Bad(object.Place("measure"), Str("there is no measure '", Printable(measure), "'")).Hint(Str("Known: ", known));
  if (!limited) return ObjectReader::Bad(where, "a rule needs min or max");
  return rule;
}

Result<std::unique_ptr<RuleSet>> ReadRules(const Json& json, const std::string& name) {
  if (!json.is_array()) return ObjectReader::Bad("rules", "expected a list");
  auto own = std::make_unique<OwnRules>();
  own->name_ = name;
  std::unordered_set<std::string> reasons;
  for (size_t i = 0; i < json.size(); ++i) {
    std::string where = Str("rules[", i, "]");
    TERN_ASSIGN(OwnRule rule, ReadRule(json[i], where));
    if (!reasons.insert(rule.reason).second) return ObjectReader::Bad(where, Str("the reason '", Printable(rule.reason), "' stands twice"));
    own->rules.push_back(std::move(rule));
  }
  return std::unique_ptr<RuleSet>(std::move(own));
}

}  // namespace

Result<std::vector<std::unique_ptr<RuleSet>>> ParseRulesText(std::string_view text, std::string_view default_name, bool toml) {
  JsonLimits limits;
  limits.max_bytes = kMaxFileBytes;
  TERN_ASSIGN(Json json, toml ? ParseToml(text) : ParseJson(text, limits));
  ObjectReader object(json, "");
  TERN_RETURN_IF_ERROR(object.Open());
  std::string name(default_name);
  TERN_RETURN_IF_ERROR(object.Text("name", &name));
  const Json* use = object.Find("use");
  const Json* lines = object.Find("lines");
  const Json* rules = object.Find("rules");
  TERN_RETURN_IF_ERROR(object.Close());
  std::vector<std::unique_ptr<RuleSet>> sets;
  if (use && !use->is_array()) return ObjectReader::Bad("use", "expected a list");
  for (size_t i = 0; use && i < use->size(); ++i) {
    TERN_ASSIGN(auto set, ReadUse((*use)[i], Str("use[", i, "]")));
    sets.push_back(std::move(set));
  }
  if (lines) {
    TERN_ASSIGN(auto set, ReadLines(*lines, name));
    sets.push_back(std::move(set));
  }
  if (rules) {
    TERN_ASSIGN(auto set, ReadRules(*rules, name));
    sets.push_back(std::move(set));
  }
  if (sets.empty()) return ObjectReader::Bad("", "the file holds no rules").Hint("It needs one of: use, lines, rules");
  return sets;
}

bool IsRulesFile(std::string_view name) { return name.ends_with(".json") || name.ends_with(".toml"); }

Result<std::vector<std::unique_ptr<RuleSet>>> ReadRulesFile(const std::string& path) {
  TERN_ASSIGN(std::string text, ReadFile(path, kMaxFileBytes));
  std::string_view name = path;
  name = name.substr(name.find_last_of('/') + 1);
  const bool toml = name.ends_with(".toml");
  if (IsRulesFile(name)) name.remove_suffix(5);
  auto sets = ParseRulesText(text, name, toml);
  if (!sets.ok()) return Status(sets.status()).File(path);
  return sets;
}

}  // namespace tern::corpus
