#include "formats/tokenizer_pretokenizers.h"

#include <algorithm>

#include "engine/base/utf8.h"
#include "formats/tokenizer_bytelevel.h"
#include "formats/tokenizer_classes.h"
#include "formats/tokenizer_config.h"
#include "formats/tokenizer_pattern.h"
#include "formats/tokenizer_scripts.h"
#include "formats/tokenizer_unicode.h"

namespace tern {
namespace {

enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

Result<Behavior> BehaviorOf(const Json& config, Behavior fallback) {
  TERN_ASSIGN(std::string name, ConfigString(config, "behavior", ""));
  if (name.empty()) return fallback;
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return Malformed(Str("unknown behavior '", Printable(name, 40), "'"));
}

// A stretch of the text that matches, or lies between matches; together they cover it.
struct Stretch {
  size_t begin, end;
  bool match;
};

// Joins stretches as the behavior says and appends the parts.
void Cut(NormalizedText part, std::vector<Stretch> stretches, Behavior behavior, std::vector<NormalizedText>* out) {
  std::vector<Stretch> cut;
  bool previous = false;
  switch (behavior) {
    case Behavior::kRemoved:
      for (const Stretch& s : stretches)
        if (!s.match) cut.push_back(s);
      break;
    case Behavior::kIsolated:
      cut = std::move(stretches);
      break;
    case Behavior::kContiguous:
      for (const Stretch& s : stretches) {
        if (s.match == previous && !cut.empty())
          cut.back().end = s.end;
        else
          cut.push_back(s);
        previous = s.match;
      }
      break;
    case Behavior::kMergedWithPrevious:
      for (const Stretch& s : stretches) {
        if (s.match && !previous && !cut.empty())
          cut.back().end = s.end;
        else
          cut.push_back(s);
        previous = s.match;
      }
      break;
    case Behavior::kMergedWithNext:
      for (size_t i = stretches.size(); i-- > 0;) {
        const Stretch& s = stretches[i];
        if (s.match && !previous && !cut.empty())
          cut.back().begin = s.begin;
        else
          cut.push_back(s);
        previous = s.match;
      }
      std::reverse(cut.begin(), cut.end());
      break;
  }
  if (cut.size() == 1 && cut[0].begin == 0 && cut[0].end == part.size()) {
    out->push_back(std::move(part));
    return;
  }
  for (const Stretch& s : cut)
    if (s.end > s.begin) out->push_back(part.Slice(s.begin, s.end));
}

template <class Matches>
void CutCharacters(NormalizedText part, Matches matches, Behavior behavior, std::vector<NormalizedText>* out) {
  std::vector<Stretch> stretches;
  size_t begin = 0;
  for (size_t i = 0; i < part.size();) {
    const Utf8Char c = DecodeUtf8(part.text, i);
    if (matches(c.code)) {
      if (begin < i) stretches.push_back({begin, i, false});
      stretches.push_back({i, i + c.bytes, true});
      begin = i + c.bytes;
    }
    i += c.bytes;
  }
  if (begin < part.size()) stretches.push_back({begin, part.size(), false});
  Cut(std::move(part), std::move(stretches), behavior, out);
}

void CutMatches(NormalizedText part, const std::vector<std::pair<size_t, size_t>>& matches, bool invert,
                Behavior behavior, std::vector<NormalizedText>* out) {
  std::vector<Stretch> stretches;
  size_t at = 0;
  for (auto [begin, end] : matches) {
    if (at != begin) stretches.push_back({at, begin, invert});
    stretches.push_back({begin, end, !invert});
    at = end;
  }
  if (at != part.size()) stretches.push_back({at, part.size(), invert});
  Cut(std::move(part), std::move(stretches), behavior, out);
}

bool IsPunctuation(char32_t c) {
  if (c < 128)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  return library::IsPunctuation(c);
}

class Sequence final : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> parts) : parts_(std::move(parts)) {}
  Status Split(NormalizedText part, std::vector<NormalizedText>* out) const override {
    std::vector<NormalizedText> parts;
    parts.push_back(std::move(part));
    for (const auto& step : parts_) TERN_RETURN_IF_ERROR(step->Run(&parts));
    std::move(parts.begin(), parts.end(), std::back_inserter(*out));
    return {};
  }
  // Once the text is cut at the space, nothing behind can join it again.
  bool separable() const override { return !parts_.empty() && parts_[0]->separable(); }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

class BertWords final : public PreTokenizer {
 public:
  Status Split(NormalizedText part, std::vector<NormalizedText>* out) const override {
    std::vector<NormalizedText> words;
    CutCharacters(std::move(part), IsWhiteSpace, Behavior::kRemoved, &words);
    for (NormalizedText& word : words) CutCharacters(std::move(word), IsPunctuation, Behavior::kIsolated, out);
    return {};
  }
  bool separable() const override { return true; }
};

class WhitespaceSplit final : public PreTokenizer {
 public:
  Status Split(NormalizedText part, std::vector<NormalizedText>* out) const override {
    CutCharacters(std::move(part), IsWhiteSpace, Behavior::kRemoved, out);
    return {};
  }
  bool separable() const override { return true; }
};

// \w+|[^\w\s]+
class Whitespace final : public PreTokenizer {
 public:
  Status Split(NormalizedText part, std::vector<NormalizedText>* out) const override {
    auto kind = [](char32_t c) { return library::IsWord(c) ? 1 : IsWhiteSpace(c) ? 0 : 2; };
    size_t begin = 0;
    int previous = 0;
    for (size_t i = 0; i < part.size();) {
      const Utf8Char c = DecodeUtf8(part.text, i);
      const int k = kind(c.code);
      if (k != previous) {
        if (previous != 0) out->push_back(part.Slice(begin, i));
        begin = i;
        previous = k;
      }
      i += c.bytes;
    }
    if (previous != 0) out->push_back(part.Slice(begin, part.size()));
    return {};
  }
  bool separable() const override { return true; }
};

enum class Scheme { kAlways, kFirst, kNever };

class Metaspace final : public PreTokenizer {
 public:
  Metaspace(std::string replacement, Scheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {}
  Status Split(NormalizedText part, std::vector<NormalizedText>* out) const override {
    if (part.text.find(' ') != std::string::npos) {
      Rewriter spaces(&part);
      for (size_t at; (at = part.text.find(' ', spaces.at())) != std::string::npos;) {
        spaces.Keep(at - spaces.at());
        spaces.Skip(1);
        spaces.Insert(replacement_);
      }
      spaces.Keep(part.size() - spaces.at());
      spaces.Finish();
    }
    if (!part.text.starts_with(replacement_) &&
        (scheme_ == Scheme::kAlways || (scheme_ == Scheme::kFirst && part.origin == 0)))
      PrependTo(&part, replacement_);
    if (!split_) {
      out->push_back(std::move(part));
      return {};
    }
    std::vector<std::pair<size_t, size_t>> matches;
    TERN_RETURN_IF_ERROR(Pattern::FromText(replacement_).FindAll(part.text, &matches));
    CutMatches(std::move(part), matches, false, Behavior::kMergedWithNext, out);
    return {};
  }
  bool separable() const override { return split_; }

 private:
  std::string replacement_;
  Scheme scheme_;
  bool split_;
};

class ByteLevel final : public PreTokenizer {
 public:
  ByteLevel(bool prefix_space, bool use_regex) : prefix_space_(prefix_space), use_regex_(use_regex) {}
  Status Split(NormalizedText part, std::vector<NormalizedText>* out) const override {
    if (prefix_space_ && !part.text.starts_with(' ')) PrependTo(&part, " ");
    const size_t first = out->size();
    if (use_regex_) {
      std::vector<std::pair<size_t, size_t>> matches;
      FindGpt2Words(part.text, &matches);
      CutMatches(std::move(part), matches, false, Behavior::kIsolated, out);
    } else {
      out->push_back(std::move(part));
    }
    for (size_t i = first; i < out->size(); ++i) ToByteLevel(&(*out)[i]);
    return {};
  }
  bool separable() const override { return use_regex_; }

 private:
  bool prefix_space_, use_regex_;
};

class Digits final : public PreTokenizer {
 public:
  explicit Digits(bool each) : each_(each) {}
  Status Split(NormalizedText part, std::vector<NormalizedText>* out) const override {
    CutCharacters(std::move(part), library::IsNumeric, each_ ? Behavior::kIsolated : Behavior::kContiguous, out);
    return {};
  }

 private:
  bool each_;
};

class Punctuation final : public PreTokenizer {
 public:
  explicit Punctuation(Behavior behavior) : behavior_(behavior) {}
  Status Split(NormalizedText part, std::vector<NormalizedText>* out) const override {
    CutCharacters(std::move(part), IsPunctuation, behavior_, out);
    return {};
  }

 private:
  Behavior behavior_;
};

class SplitAt final : public PreTokenizer {
 public:
  SplitAt(Pattern pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  Status Split(NormalizedText part, std::vector<NormalizedText>* out) const override {
    std::vector<std::pair<size_t, size_t>> matches;
    TERN_RETURN_IF_ERROR(pattern_.FindAll(part.text, &matches));
    CutMatches(std::move(part), matches, invert_, behavior_, out);
    return {};
  }

 private:
  Pattern pattern_;
  Behavior behavior_;
  bool invert_;
};

class UnicodeScripts final : public PreTokenizer {
 public:
  Status Split(NormalizedText part, std::vector<NormalizedText>* out) const override {
    std::vector<size_t> cuts;
    int last = -1;  // none yet
    for (size_t i = 0; i < part.size();) {
      const Utf8Char c = DecodeUtf8(part.text, i);
      const int script = c.code == ' ' ? kAnyScript : ScriptOf(c.code);
      if (script != kAnyScript && last != kAnyScript && last != script) cuts.push_back(i);
      if (script != kAnyScript) last = script;
      i += c.bytes;
    }
    cuts.push_back(part.size());
    for (size_t i = 0; i + 1 < cuts.size(); ++i)
      if (cuts[i] < cuts[i + 1]) out->push_back(part.Slice(cuts[i], cuts[i + 1]));
    return {};
  }
};

class FixedLength final : public PreTokenizer {
 public:
  explicit FixedLength(int64_t length) : length_(length) {}
  Status Split(NormalizedText part, std::vector<NormalizedText>* out) const override {
    size_t begin = 0;
    int64_t count = 0;
    for (size_t i = 0; i < part.size();) {
      i += DecodeUtf8(part.text, i).bytes;
      if (++count < length_ && i < part.size()) continue;
      out->push_back(part.Slice(begin, i));
      begin = i;
      count = 0;
    }
    return {};
  }

 private:
  int64_t length_;
};

Result<Scheme> SchemeOf(const Json& config) {
  TERN_ASSIGN(std::string name, ConfigString(config, "prepend_scheme", "always"));
  TERN_ASSIGN(bool prefix, ConfigBool(config, "add_prefix_space", true));
  if (!prefix || name == "never") return Scheme::kNever;
  if (name == "always") return Scheme::kAlways;
  if (name == "first") return Scheme::kFirst;
  return Malformed(Str("unknown prepend_scheme '", Printable(name, 40), "'"));
}

Result<std::unique_ptr<PreTokenizer>> Make(const Json& config, int depth) {
  if (depth > 8) return Malformed("pre-tokenizers are nested too deeply");
  TERN_ASSIGN(std::string type, ConfigType(config));
  std::unique_ptr<PreTokenizer> out;
  if (type == "Sequence") {
    TERN_ASSIGN(const Json* list, ConfigArray(config, "pretokenizers"));
    std::vector<std::unique_ptr<PreTokenizer>> parts;
    for (const Json& part : *list) {
      TERN_ASSIGN(auto made, Make(part, depth + 1));
      parts.push_back(std::move(made));
    }
    out = std::make_unique<Sequence>(std::move(parts));
  } else if (type == "BertPreTokenizer") {
    out = std::make_unique<BertWords>();
  } else if (type == "WhitespaceSplit") {
    out = std::make_unique<WhitespaceSplit>();
  } else if (type == "Whitespace") {
    out = std::make_unique<Whitespace>();
  } else if (type == "Metaspace") {
    TERN_ASSIGN(std::string replacement, ConfigCharacter(config, "replacement"));
    TERN_ASSIGN(Scheme scheme, SchemeOf(config));
    TERN_ASSIGN(bool split, ConfigBool(config, "split", true));
    out = std::make_unique<Metaspace>(std::move(replacement), scheme, split);
  } else if (type == "ByteLevel") {
    TERN_ASSIGN(bool prefix, ConfigBool(config, "add_prefix_space", true));
    TERN_ASSIGN(bool use_regex, ConfigBool(config, "use_regex", true));
    out = std::make_unique<ByteLevel>(prefix, use_regex);
  } else if (type == "Digits") {
    TERN_ASSIGN(bool each, ConfigBool(config, "individual_digits", false));
    out = std::make_unique<Digits>(each);
  } else if (type == "Punctuation") {
    TERN_ASSIGN(Behavior behavior, BehaviorOf(config, Behavior::kIsolated));
    out = std::make_unique<Punctuation>(behavior);
  } else if (type == "CharDelimiterSplit" || type == "Delimiter") {
    TERN_ASSIGN(std::string delimiter, ConfigCharacter(config, "delimiter"));
    out = std::make_unique<SplitAt>(Pattern::FromText(std::move(delimiter)), Behavior::kRemoved, false);
  } else if (type == "Split") {
    TERN_ASSIGN(Pattern pattern, Pattern::FromConfig(config, "pattern"));
    TERN_ASSIGN(Behavior behavior, BehaviorOf(config, Behavior::kIsolated));
    TERN_ASSIGN(bool invert, ConfigBool(config, "invert", false));
    out = std::make_unique<SplitAt>(std::move(pattern), behavior, invert);
  } else if (type == "UnicodeScripts") {
    out = std::make_unique<UnicodeScripts>();
  } else if (type == "FixedLength") {
    TERN_ASSIGN(int64_t length, ConfigInteger(config, "length", 5, 1, INT32_MAX));
    out = std::make_unique<FixedLength>(length);
  } else {
    return Malformed(Str("unknown pre-tokenizer '", Printable(type, 40), "'"));
  }
  return out;
}

}  // namespace

Status PreTokenizer::Run(std::vector<NormalizedText>* parts) const {
  std::vector<NormalizedText> out;
  for (NormalizedText& part : *parts) {
    if (part.added_id >= 0) {
      out.push_back(std::move(part));
      continue;
    }
    TERN_RETURN_IF_ERROR(Split(std::move(part), &out));
  }
  *parts = std::move(out);
  return {};
}

Result<std::unique_ptr<PreTokenizer>> MakePreTokenizer(const Json& config) {
  auto made = Make(config, 0);
  if (!made.ok()) return Status(made.status()).Where("pre_tokenizer");
  return made;
}

}  // namespace tern
