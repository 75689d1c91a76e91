#include "formats/tokenizer_pattern.h"

#include "engine/base/utf8.h"
#include "formats/tokenizer_classes.h"
#include "formats/tokenizer_config.h"
#include "formats/tokenizer_unicode.h"

namespace tern {
namespace {

constexpr std::string_view kGpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

enum class Kind { kSpace, kLetter, kNumber, kOther };

struct Next {
  Kind kind;
  size_t bytes;
};
Next KindAt(std::string_view text, size_t at) {
  const uint8_t b = static_cast<uint8_t>(text[at]);
  if (b < 128) {
    const Kind kind = (b | 32) >= 'a' && (b | 32) <= 'z' ? Kind::kLetter
                      : b >= '0' && b <= '9'             ? Kind::kNumber
                      : b == ' ' || (b >= 9 && b <= 13)  ? Kind::kSpace
                                                         : Kind::kOther;
    return {kind, 1};
  }
  const Utf8Char c = DecodeUtf8(text, at);
  const Kind kind = IsWhiteSpace(c.code)        ? Kind::kSpace
                    : library::IsLetter(c.code) ? Kind::kLetter
                    : library::IsNumber(c.code) ? Kind::kNumber
                                                : Kind::kOther;
  return {kind, c.bytes};
}

size_t Contraction(std::string_view text, size_t at) {
  if (text[at] != '\'') return 0;
  for (std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
    if (text.substr(at).starts_with(ending)) return ending.size();
  return 0;
}

}  // namespace

void FindGpt2Words(std::string_view text, std::vector<std::pair<size_t, size_t>>* matches) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t begin = at;
    if (const size_t contraction = Contraction(text, at)) {
      at += contraction;
      matches->push_back({begin, at});
      continue;
    }
    size_t word = at;
    if (text[at] == ' ' && at + 1 < text.size()) ++word;
    Next next = KindAt(text, word);
    if (next.kind == Kind::kSpace) next = KindAt(text, word = at);
    if (next.kind != Kind::kSpace) {
      const Kind kind = next.kind;
      at = word;
      while (at < text.size() && (next = KindAt(text, at)).kind == kind) at += next.bytes;
      matches->push_back({begin, at});
      continue;
    }
    // White space: all of it at the end of the text, else all but the last character, unless that is all there is.
    size_t last = at;
    while (at < text.size() && (next = KindAt(text, at)).kind == Kind::kSpace) {
      last = at;
      at += next.bytes;
    }
    if (at < text.size() && last > begin) at = last;
    matches->push_back({begin, at});
  }
}

Pattern Pattern::FromText(std::string text) {
  Pattern out;
  out.text_ = std::move(text);
  return out;
}

Result<Pattern> Pattern::FromConfig(const Json& config, const char* key) {
  auto it = config.find(key);
  if (it == config.end()) return Malformed(Str("'", key, "' is missing"));
  if (it->is_string()) return FromText(it->get<std::string>());
  if (!it->is_object()) return Malformed(Str("'", key, "' must be {\"String\": ...} or {\"Regex\": ...}"));
  if (it->contains("String")) {
    TERN_ASSIGN(std::string text, ConfigString(*it, "String"));
    return FromText(std::move(text));
  }
  Pattern out;
  TERN_ASSIGN(out.text_, ConfigString(*it, "Regex"));
  TERN_ASSIGN(out.regex_, Regex::Compile(out.text_));
  out.fast_ = out.text_ == " {2,}"  ? Fast::kSpaceRun
              : out.text_ == "\\s+" ? Fast::kWhiteSpaceRun
              : out.text_ == kGpt2  ? Fast::kGpt2
                                    : Fast::kNone;
  return out;
}

Status Pattern::FindAll(std::string_view text, std::vector<std::pair<size_t, size_t>>* matches) const {
  if (!regex_) {
    if (text_.empty()) return {};
    for (size_t at = 0; (at = text.find(text_, at)) != std::string_view::npos; at += text_.size())
      matches->push_back({at, at + text_.size()});
    return {};
  }
  if (fast_ == Fast::kSpaceRun) {
    for (size_t at = 0; (at = text.find("  ", at)) != std::string_view::npos;) {
      size_t end = at;
      while (end < text.size() && text[end] == ' ') ++end;
      matches->push_back({at, end});
      at = end;
    }
    return {};
  }
  if (fast_ == Fast::kGpt2) {
    FindGpt2Words(text, matches);
    return {};
  }
  return regex_->FindAll(text, matches);
}

}  // namespace tern
